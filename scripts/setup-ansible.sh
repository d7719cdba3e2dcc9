#!/usr/bin/env bash
# Creates .venv-ansible with exactly the packages of requirements-ansible.lock: Ansible with its collections, its
# linters and the Kubernetes client. A second run with the same lock does nothing.
#   PYTHON=python3.12   which interpreter to use (3.11, 3.12 or 3.13)
#   --lock              choose the versions anew within the bounds of requirements-ansible.in
set -euo pipefail
cd "$(dirname "$0")/.."

fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
if [[ -z ${PYTHON:-} ]]; then
  for candidate in python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c "$fits" 2>/dev/null; then PYTHON=$candidate; break; fi
  done
fi
if ! "${PYTHON:-false}" -c "$fits" 2>/dev/null; then
  echo "setup-ansible: Ansible is locked for Python 3.11, 3.12 or 3.13; name one: PYTHON=/path/to/python $0" >&2
  exit 2
fi

venv=.venv-ansible
wanted=$(cat requirements-ansible.lock scripts/setup-ansible.sh | sha256sum | cut -d' ' -f1)
if [[ ${1:-} != --lock && -f $venv/complete && $(<"$venv/complete") == "$wanted" ]]; then exit 0; fi

echo "setup-ansible: installing Ansible into $venv with $("$PYTHON" --version)" >&2
if [[ ! -x $venv/bin/python ]] || ! "$venv/bin/python" -c "$fits" 2>/dev/null; then
  "$PYTHON" -m venv --clear "$venv"
fi
rm -f "$venv/complete"
uv_version=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements.lock)
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
if [[ ${1:-} == --lock ]]; then
  "$venv/bin/python" -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-emit-index-url \
    --no-annotate --no-header --generate-hashes requirements-ansible.in --output-file requirements-ansible.lock
  wanted=$(cat requirements-ansible.lock scripts/setup-ansible.sh | sha256sum | cut -d' ' -f1)
fi
"$venv/bin/python" -m uv pip sync --quiet --python "$venv/bin/python" --require-hashes requirements-ansible.lock
echo "$wanted" > "$venv/complete"
