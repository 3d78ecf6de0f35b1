#!/usr/bin/env bash
# Resolves every dependency and writes requirements.lock.txt, and from its versions the locks of the
# images: exact versions and hashes, no addresses.
set -euo pipefail

out=requirements.lock.txt
images=deploy/docker

# FILE OPTIONS…: what pyproject.toml asks for under these options.
resolve() {
  local file=$1
  shift
  .venv/bin/pip-compile --quiet "$@" --generate-hashes --strip-extras --allow-unsafe \
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
    --no-header --no-annotate --output-file "$file" pyproject.toml 2>/dev/null
  # The project's own extras name each other, so the resolver lists the checkout itself: not a dependency.
  sed -i -e '/^#/d' -e '/^forebay @/d' "$file"
  if grep -nE '[a-z]+://' "$file"; then
    printf 'lock: an address got into %s\n' "$file" >&2
    exit 1
  fi
  printf 'lock: %s packages in %s\n' "$(grep -cE '^[a-z0-9]' "$file")" "$file"
}

# FILE OPTIONS…: the same for an image, in the versions of the lock that is tested. Its hashes are
# taken over from there and from the file as it was: making them anew reads gigabytes.
resolve_image() {
  local file=$1
  shift
  cat "$file" "$out" >"$known" 2>/dev/null || cp "$out" "$known"
  cp "$known" "$file"
  resolve "$file" --constraint "$versions" "$@"
}

resolve "$out" --extra dev
versions=$(mktemp) known=$(mktemp)
trap 'rm -f "$versions" "$known"' EXIT
sed -nE 's/^([a-z0-9][^ ]*).*/\1/p' "$out" >"$versions"
for extra in server cpu gpu; do
  resolve_image "$images/requirements.$extra.lock.txt" --extra "$extra"
done
resolve_image "$images/requirements.build.lock.txt" --build-deps-for wheel --only-build-deps
