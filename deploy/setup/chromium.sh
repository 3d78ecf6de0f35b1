#!/usr/bin/env bash
# The documentation page is tested in a real browser. Installed through apt when there is none.
set -euo pipefail

{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null && exit 0
[ -n "${FOREBAY_TEST_CHROMIUM:-}" ] && exit 0
bash "$(dirname "$0")/apt_install.sh" chromium || {
  printf 'setup: one test opens the documentation in Chromium. Install it as said above, or name one: FOREBAY_TEST_CHROMIUM=/path/to/chromium make test\n' >&2
  exit 1
}
