#!/usr/bin/env bash
# Installs Debian's packages of small programs that tests run, where one is missing: age encrypts backups, strace shows that
# rows are on the disk before they are acknowledged. Where that cannot be done it says so, and those tests are skipped.
set -euo pipefail
missing=()
for program in age strace; do
  command -v "$program" >/dev/null || missing+=("$program")
done
((${#missing[@]})) || exit 0
if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "programs: no ${missing[*]}, and only root can install packages with apt-get: tests that run them will be skipped" >&2
  exit 0
fi
echo "programs: installing Debian's ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
