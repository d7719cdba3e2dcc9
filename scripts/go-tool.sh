#!/usr/bin/env bash
# Builds a program of scripts/go once for every version of it, and prints its path: go-tool.sh PACKAGE
# Exit code 3 where there is no Go compiler.
set -euo pipefail
cd "$(dirname "$0")/go"
command -v go >/dev/null || exit 3
package=${1:?which package?}
folder=../../build/tools
tool=$folder/${package##*/}-$({ cat go.mod go.sum; [[ $package != ./* ]] || cat "$package"/*.go; } | sha256sum | cut -c1-12)
if [[ ! -x $tool ]]; then
  mkdir -p "$folder"
  # Another run may be building the same.
  go build -o "$tool.$$" "$package"
  mv "$tool.$$" "$tool"
fi
realpath "$tool"
