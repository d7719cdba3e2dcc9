#!/usr/bin/env bash
# Runs the tests in two groups side by side, one for each of two cores, and prints what each said and its slowest ten.
#   scripts/unit.sh [PYTEST-OPTION...]
# The first group is what measures and trains and the one loop from end to end, the second is everything else; both take
# about as long.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly apart=(tests/bench tests/e2e tests/training)
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

options=(-m "not faults and not e2e" --durations=10 "$@")
ignored=()
for folder in "${apart[@]}"; do ignored+=("--ignore=$folder"); done
.venv/bin/pytest "${options[@]}" "${apart[@]}" >"$results/apart" 2>&1 &
other=$!
code=0
.venv/bin/pytest "${options[@]}" "${ignored[@]}" || code=$?
wait "$other" || code=$?
cat "$results/apart"
exit "$code"
