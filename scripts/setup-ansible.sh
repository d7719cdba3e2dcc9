#!/usr/bin/env bash
# Creates .venv-ansible with exactly the packages of requirements-ansible.lock: Ansible with its collections, its
# linters and the Kubernetes client. A second run with the same lock does nothing. On Debian and Ubuntu promtool, which
# tests alert rules, comes out of the distribution's package into the same folder; nothing is installed.
#   PYTHON=python3.12   which interpreter to use (3.11, 3.12 or 3.13)
#   --lock              choose the versions anew within the bounds of requirements-ansible.in
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/python.sh

venv=.venv-ansible
wanted=$(cat requirements-ansible.lock scripts/setup-ansible.sh scripts/python.sh | sha256sum | cut -d' ' -f1)
if [[ ${1:-} != --lock && -f $venv/complete && $(<"$venv/complete") == "$wanted" ]]; then exit 0; fi

echo "setup-ansible: installing Ansible into $venv with $("$PYTHON" --version)" >&2
make_venv "$venv"
if [[ ${1:-} == --lock ]]; then
  "$venv/bin/python" -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-emit-index-url \
    --no-annotate --no-header --generate-hashes requirements-ansible.in --output-file requirements-ansible.lock
  wanted=$(cat requirements-ansible.lock scripts/setup-ansible.sh scripts/python.sh | sha256sum | cut -d' ' -f1)
fi
"$venv/bin/python" -m uv pip sync --quiet --python "$venv/bin/python" --require-hashes requirements-ansible.lock
# Where Python may not write here, each module that talks to Kubernetes would compile 1,900 files anew.
"$venv/bin/python" -m compileall -q -j 0 "$venv"/lib/python3*/site-packages/{ansible,jinja2,kubernetes,yaml}

if command -v apt-get >/dev/null; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  fetch_promtool() { (cd "$scratch" && apt-get download -qq prometheus 2>/dev/null && dpkg-deb --extract prometheus_*.deb .); }
  if fetch_promtool || { [[ $EUID == 0 ]] && apt-get update -qq && fetch_promtool; }; then
    install "$scratch/usr/bin/promtool" "$venv/bin/promtool"
  fi
fi
[[ -x $venv/bin/promtool ]] || command -v promtool >/dev/null ||
  echo "setup-ansible: no promtool here (package prometheus): the tests of alert rules are skipped" >&2
echo "$wanted" > "$venv/complete"
