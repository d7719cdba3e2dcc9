#!/usr/bin/env bash
# Asks a running platform whether it is what the playbooks promise: every file of 01-infra, 02-connectivity,
# 03-functional and 99-integration, in this order. Ends with "N passed, M failed, S skipped".
#
# Usage: run-all.sh [--only REGEX] [FOLDER | FILE]...     without an argument, all
#   --only   ask only the facts whose whole sentence matches this extended regular expression
# Environment: see _lib.sh. KUBECONFIG must name the cluster.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here" || exit 2
case ${1:-} in
  --help | -h) sed -n '2,7s/^# \{0,1\}//p' run-all.sh; exit 0 ;;
  --only)
    [[ -n ${2:-} ]] || { echo "run-all: --only needs a regular expression" >&2; exit 2; }
    export SUITE_ONLY=$2
    shift 2
    ;;
esac

for program in "${DRIFTLOOP_KUBECTL:-kubectl}" jq curl; do
  command -v "${program%% *}" >/dev/null || { echo "run-all: $program is not installed" >&2; exit 2; }
done
# shellcheck disable=SC2086
if ! version=$(${DRIFTLOOP_KUBECTL:-kubectl} --request-timeout=10s get --raw /version 2>&1); then
  echo "run-all: no cluster answers; set KUBECONFIG: ${version:0:300}" >&2
  exit 2
fi

folders=(01-infra 02-connectivity 03-functional 99-integration)
files=()
for wanted in "${@:-${folders[@]}}"; do
  wanted=${wanted#tests/}
  if [[ -d $wanted ]]; then files+=("$wanted"/*.sh); elif [[ -f $wanted ]]; then files+=("$wanted"); else
    echo "run-all: there is no folder or file $wanted in tests/" >&2
    exit 2
  fi
done

SUITE_COUNTS=$(mktemp)
export SUITE_COUNTS
trap 'rm -f "$SUITE_COUNTS"' EXIT
broken=0
for file in "${files[@]}"; do
  printf '# %s\n' "${file%.sh}"
  bash "$file"
  code=$?
  # Facts are counted one by one; a file that ends early has not asked all of its own.
  if [[ $code != 0 ]]; then
    printf 'FAIL  %s runs to its end\n      | exit code %s\n' "$file" "$code"
    echo failed >>"$SUITE_COUNTS"
    broken=1
    [[ $code != 130 ]] || break
  fi
done
count() { grep -c "^$1$" "$SUITE_COUNTS"; }
failed=$(count failed)
printf '%s passed, %s failed, %s skipped\n' "$(count passed)" "$failed" "$(count skipped)"
[[ -s $SUITE_COUNTS ]] || { echo "run-all: no fact was asked" >&2; exit 2; }
[[ $failed == 0 && $broken == 0 ]]
