#!/usr/bin/env bash
# Checks what deploys the platform: playbooks (ansible-lint, production profile), every YAML file (yamllint), every shell
# script including those that playbook 00 renders (shellcheck). Prints nothing where all is clean.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup-ansible.sh
bin=.venv-ansible/bin
shellcheck=.venv/bin/shellcheck
[[ -x $shellcheck ]] || shellcheck=$(command -v shellcheck) || { echo "lint-platform: shellcheck is missing: make setup" >&2; exit 2; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Linting reads the playbooks with a vault of its own: no key is made where none is needed.
export DRIFTLOOP_CONFIG_DIR=$scratch/config ANSIBLE_HOME=$scratch/ansible ANSIBLE_NOCOLOR=1 PATH=$PWD/$bin:$PATH
failed=0

mapfile -t yaml < <(git ls-files --cached --others --exclude-standard '*.yml' '*.yaml' .ansible-lint .yamllint)
$bin/yamllint --strict "${yaml[@]}" || failed=1

$bin/ansible-lint --offline -q --nocolor playbooks/*.yml || failed=1

$bin/ansible-playbook --inventory inventory/hosts.yml playbooks/00-bootstrap-scripts.yml \
  --extra-vars "observability_dir=$scratch/observability" >"$scratch/render.log" 2>&1 || {
  echo "lint-platform: playbook 00 does not render its scripts:" >&2
  tail -20 "$scratch/render.log" >&2
  failed=1
}
mapfile -t scripts < <(git grep --untracked --files-with-matches --extended-regexp '^#!(/usr/bin/env |/bin/)(ba)?sh' -- \
  scripts tests .ci files ':!*.j2')
$shellcheck --external-sources --source-path=SCRIPTDIR "${scripts[@]}" "$scratch"/observability/*.sh || failed=1
exit $failed
