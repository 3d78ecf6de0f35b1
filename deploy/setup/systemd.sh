#!/usr/bin/env bash
# The tests verify the unit files with systemd's own tool. Installed through apt when there is none.
set -euo pipefail

command -v systemd-analyze >/dev/null && exit 0
bash "$(dirname "$0")/apt_install.sh" systemd || {
  printf 'setup: the unit files are verified with systemd-analyze. Install systemd as said above; nothing of it has to run\n' >&2
  exit 1
}
