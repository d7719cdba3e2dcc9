#!/usr/bin/env bash
# Checks the GitHub workflows with actionlint, which is built from scripts/go once for every version of it; the scripts in
# them with shellcheck. Without Go it says that it could not.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v go >/dev/null; then
  echo "lint-workflows: there is no Go compiler: the workflows are not checked" >&2
  exit 0
fi
tool=build/tools/actionlint-$(cat scripts/go/go.mod scripts/go/go.sum | sha256sum | cut -c1-12)
if [[ ! -x $tool ]]; then
  mkdir -p build/tools
  (cd scripts/go && go build -o "../../$tool.part" github.com/rhysd/actionlint/cmd/actionlint)
  mv "$tool.part" "$tool"
fi
"$tool" -shellcheck .venv/bin/shellcheck .github/workflows/*.yml
