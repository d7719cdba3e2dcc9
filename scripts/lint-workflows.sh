#!/usr/bin/env bash
# Checks the GitHub workflows with actionlint; the scripts in them with shellcheck. Without Go it says that it could not.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=$(scripts/go-tool.sh github.com/rhysd/actionlint/cmd/actionlint) || {
  (($? == 3)) || exit 1
  echo "lint-workflows: there is no Go compiler: the workflows are not checked" >&2
  exit 0
}
"$tool" -shellcheck .venv/bin/shellcheck .github/workflows/*.yml
