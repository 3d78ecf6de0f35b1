#!/usr/bin/env bash
# Installs Debian packages by name, as root or through sudo without a question; else says what to type.
set -euo pipefail

command -v apt-get >/dev/null || { printf 'setup: this is not Debian or Ubuntu; install by hand: %s\n' "$*" >&2; exit 1; }
if [ "$(id -u)" = 0 ]; then
  as_root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  as_root=(sudo -n)
else
  printf 'setup: installing %s needs rights that this user lacks. Type:\n\n    sudo apt-get update && sudo apt-get install -y %s\n\n' "$*" "$*" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
printf 'setup: installing %s through apt\n' "$*"
"${as_root[@]}" apt-get -qq update
# Policy 101: a package must not start a system-wide service; the tests start private ones.
policy=/usr/sbin/policy-rc.d
made_policy=
if [ ! -e "$policy" ]; then
  made_policy=yes
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod +x "$policy"
fi
trap '[ -z "$made_policy" ] || "${as_root[@]}" rm -f "$policy"' EXIT
"${as_root[@]}" apt-get -qq install -y --no-install-recommends "$@" >/dev/null
