#!/usr/bin/env bash
# Installs Debian's Chromium for the tests of the pages where none is found. Where that cannot be done it says so, and the
# tests of the pages are skipped with the same reason.
set -euo pipefail
for name in "${DRIFTLOOP_CHROMIUM:-}" chromium chromium-browser google-chrome-stable google-chrome; do
  [[ -n $name ]] && command -v "$name" >/dev/null && exit 0
done
if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "chromium: none found, and only root can install one with apt-get: the tests of the pages will be skipped" >&2
  exit 0
fi
echo "chromium: installing Debian's" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium fonts-liberation >/dev/null
