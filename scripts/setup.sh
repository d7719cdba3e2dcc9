#!/usr/bin/env bash
# Creates .venv with exactly the packages of requirements.lock; a second run with the same lock does nothing.
#   PYTHON=python3.12       which interpreter to use (3.11, 3.12 or 3.13)
#   TORCH_BACKEND=cpu       take torch from PyTorch's own index (200 MB instead of 5 GB with CUDA)
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/python.sh

wanted=$(cat requirements.lock pyproject.toml src/driftloop_bench/pyproject.toml scripts/setup.sh scripts/python.sh | sha256sum | cut -d' ' -f1)-${TORCH_BACKEND:-pypi}
[[ -x .venv/bin/driftloop && -f .venv/complete && $(<.venv/complete) == "$wanted" ]] && exit 0

echo "setup: installing the locked packages into .venv with $("$PYTHON" --version)" >&2
make_venv .venv
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
