#!/usr/bin/env bash
# Installs Debian's packages of small programs that tests run, where one is missing: age encrypts backups, strace shows that
# rows are on the disk before they are acknowledged.
set -euo pipefail
missing=()
for program in age strace; do
  command -v "$program" >/dev/null || missing+=("$program")
done
((${#missing[@]})) || exit 0
"$(dirname "$0")/packages.sh" "tests that run them" "${missing[@]}"
