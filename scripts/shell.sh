# shellcheck shell=bash
# What the scripts of this repository say, and how they end and wait; sourced, never run. `program` names who speaks.
say() { printf '%s: %s\n' "${program:?}" "$*"; }

die() {
  printf '%s: %s\n' "${program:?}" "$*" >&2
  exit 1
}

within() { # SECONDS COMMAND...: succeeds within that time, trying every second; the last output is the evidence
  local end=$((SECONDS + $1)) output
  shift
  while true; do
    output=$("$@" 2>&1) && { [[ -z $output ]] || printf '%s\n' "$output"; return 0; }
    ((SECONDS < end)) || { [[ -z $output ]] || printf '%s\n' "$output"; return 1; }
    sleep 1
  done
}
