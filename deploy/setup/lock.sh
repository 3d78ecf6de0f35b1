#!/usr/bin/env bash
# Resolves every dependency and writes requirements.lock.txt: exact versions and hashes, no addresses.
set -euo pipefail

out=requirements.lock.txt
.venv/bin/pip-compile --quiet --extra dev --generate-hashes --strip-extras --allow-unsafe \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
  --no-header --no-annotate --output-file "$out" pyproject.toml 2>/dev/null
# The project's own extras name each other, so the resolver lists the checkout itself: not a dependency.
sed -i -e '/^#/d' -e '/^forebay @/d' "$out"
if grep -nE '[a-z]+://' "$out"; then
  printf 'lock: an address got into %s\n' "$out" >&2
  exit 1
fi
printf 'lock: %s packages in %s\n' "$(grep -cE '^[a-z0-9]' "$out")" "$out"
