#!/usr/bin/env bash
# Makes the virtual environment and installs the locked dependencies and this checkout into it.
# Needs Python 3.11 or newer. Debian splits `venv` from Python: installed here when it is missing.
set -euo pipefail

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

command -v "$PYTHON" >/dev/null || fail "no $PYTHON here. Install Python 3.11 or newer, or say which: make setup PYTHON=/path/to/python3"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || fail "$("$PYTHON" --version) is too old: Forebay needs 3.11 or newer. Say which: make setup PYTHON=/path/to/python3.11"

make_venv() { "$PYTHON" -m venv "$VENV" >/dev/null 2>&1 && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; }

if ! { [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; }; then
  if ! make_venv; then
    rm -rf "$VENV"
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! "$PYTHON" -c 'import ensurepip, venv' >/dev/null 2>&1; then
      bash "$(dirname "$0")/apt_install.sh" "python$version-venv" \
        || fail "Python's venv module is missing and could not be installed. Type: sudo apt-get install python$version-venv"
    fi
    make_venv || fail "$PYTHON -m venv $VENV failed; run it by hand to see why"
  fi
fi

printf 'setup: installing the locked dependencies into %s (TensorFlow is large: a few minutes the first time)\n' "$VENV"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock.txt
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
printf 'setup: ready; the command is %s/bin/forebay\n' "$VENV"
