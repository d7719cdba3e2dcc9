#!/usr/bin/env bash
# Installs Debian's Chromium for the tests of the pages where none is found. Where that cannot be done it says so, and the
# tests of the pages are skipped with the same reason.
set -euo pipefail
for name in "${DRIFTLOOP_CHROMIUM:-}" chromium chromium-browser google-chrome-stable google-chrome; do
  [[ -n $name ]] && command -v "$name" >/dev/null && exit 0
done
"$(dirname "$0")/packages.sh" "the tests of the pages" chromium fonts-liberation
