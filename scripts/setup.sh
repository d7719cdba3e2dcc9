#!/usr/bin/env bash
# Creates .venv with exactly the packages of requirements.lock; a second run with the same lock does nothing.
#   PYTHON=python3.12       which interpreter to use (3.11, 3.12 or 3.13)
#   TORCH_BACKEND=cpu       take torch from PyTorch's own index (200 MB instead of 5 GB with CUDA)
set -euo pipefail
cd "$(dirname "$0")/.."

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

wanted=$(cat requirements.lock pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1)-${TORCH_BACKEND:-pypi}
[[ -x .venv/bin/driftloop && -f .venv/complete && $(<.venv/complete) == "$wanted" ]] && exit 0

echo "setup: installing the locked packages into .venv with $("$PYTHON" --version)" >&2
if [[ ! -x .venv/bin/python ]] || ! .venv/bin/python -c "$fits" 2>/dev/null; then
  "$PYTHON" -m venv --clear .venv
fi
rm -f .venv/complete
uv_version=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements.lock)
.venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
uv() { .venv/bin/python -m uv "$@"; }

lock=requirements.lock
if [[ -n ${TORCH_BACKEND:-} ]]; then
  # The lock's torch is the one with CUDA; everything else is taken from the lock as it stands.
  lock=$(mktemp)
  trap 'rm -f "$lock"' EXIT
  awk '/^[a-z]/ {skip = /^(torch|triton|nvidia-|cuda-)/} !skip' requirements.lock > "$lock"
fi
uv pip sync --quiet --python .venv/bin/python --require-hashes "$lock"
if [[ -n ${TORCH_BACKEND:-} ]]; then
  version=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' requirements.lock)
  uv pip install --quiet --python .venv/bin/python --torch-backend "$TORCH_BACKEND" "torch==$version"
fi
uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
echo "$wanted" > .venv/complete
