#!/usr/bin/env bash
# Sourced by the set-up scripts: sets PYTHON to an interpreter that the locked packages are for, or says what is missing.

fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
if [[ -z ${PYTHON:-} ]]; then
  for candidate in python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c "$fits" 2>/dev/null; then PYTHON=$candidate; break; fi
  done
fi
if ! "${PYTHON:-false}" -c "$fits" 2>/dev/null; then
  echo "setup: driftloop needs Python 3.11, 3.12 or 3.13; install one, or name it: make setup PYTHON=/path/to/python" >&2
  exit 2
fi

# Makes the virtual environment $1 with the locked uv in it, unless it is there and fits.
make_venv() {
  if ! "$1/bin/python" -c "$fits" 2>/dev/null || ! "$1/bin/python" -m pip --version >/dev/null 2>&1; then
    "$PYTHON" -m venv --clear "$1"
  fi
  rm -f "$1/complete"
  "$1/bin/python" -m pip install --quiet --disable-pip-version-check \
    "uv==$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements.lock)"
}
