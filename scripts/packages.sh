#!/usr/bin/env bash
# Installs Debian packages that tests need, where root may; elsewhere it says which tests will be skipped, and that is no error.
#   packages.sh WHAT-IS-SKIPPED PACKAGE...
set -euo pipefail
readonly skipped=${1:?which tests are skipped without them?}
shift
if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "packages: no $*, and only root can install them with apt-get: $skipped will be skipped" >&2
  exit 0
fi
echo "packages: installing Debian's $*" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@" >/dev/null
