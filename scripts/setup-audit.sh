#!/usr/bin/env bash
# Creates .venv-audit with exactly the packages of requirements-audit.lock: what looks for known holes, licences and
# secrets, and what writes bills of materials. A second run with the same lock does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/python.sh

venv=.venv-audit
wanted=$(cat requirements-audit.lock scripts/setup-audit.sh scripts/python.sh | sha256sum | cut -d' ' -f1)
[[ -f $venv/complete && $(<"$venv/complete") == "$wanted" ]] && exit 0

echo "setup-audit: installing into $venv with $("$PYTHON" --version)" >&2
make_venv "$venv"
"$venv/bin/python" -m uv pip sync --quiet --python "$venv/bin/python" --require-hashes requirements-audit.lock
echo "$wanted" > "$venv/complete"
