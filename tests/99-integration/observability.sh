#!/usr/bin/env bash
# The two scripts for people: healthcheck.sh and port-forward-all.sh, as playbook 00 rendered them.
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"
scripts=${OBSERVABILITY_DIR:-$repository/scripts/observability}
if [[ ! -x $scripts/healthcheck.sh ]]; then
  skip "healthcheck.sh and port-forward-all.sh" "playbook 00 has not rendered them into $scripts"
  exit 0
fi
export DRIFTLOOP_PORT_FORWARD_DIR=$scratch/forward
always "$scripts/port-forward-all.sh stop"

# Facts before these restarted pods, and Prometheus says nothing of a new one until it has asked it.
well() { soon 90 "$scripts/healthcheck.sh"; }
well_in_json() {
  soon 90 "$scripts/healthcheck.sh" --json >"$scratch/health"
  jq -e '.healthy == true and (.layers | length) == 6' "$scratch/health" >/dev/null \
    || { echo "found: $(jq -c '.layers[].checks[] | select(.healthy | not)' "$scratch/health" 2>/dev/null || head -c 300 "$scratch/health")"; return 1; }
}
notices() { # the Pushgateway taken away: exit code 1, layer 4 named
  local code
  # Not scaled: who sets the replicas owns them from then on, and the next playbook would take that for a change.
  k -n "$monitoring" create quota nothing-starts --hard=pods=0 >/dev/null || return 1
  always "k -n '$monitoring' delete quota nothing-starts --ignore-not-found"
  k -n "$monitoring" delete pods -l app.kubernetes.io/name=pushgateway >/dev/null
  soon 60 gone || return 1
  "$scripts/healthcheck.sh" --json --layer 4 >"$scratch/health"
  code=$?
  k -n "$monitoring" delete quota nothing-starts >/dev/null
  soon 120 k -n "$monitoring" rollout status deployment/pushgateway --timeout=5s >/dev/null
  cat "$scratch/health"
  same 1 $code && jq -e '.layers[0].layer == 4 and any(.layers[0].checks[]; .check == "pushgateway answers" and (.healthy | not))' "$scratch/health" >/dev/null
}
gone() { ! ask "$monitoring" pushgateway:9091 /-/healthy >/dev/null 2>&1; }
cannot_look() { local code; "$scripts/healthcheck.sh" --layer 9; code=$?; same 2 $code; }
opens() { "$scripts/port-forward-all.sh" start && all_answer; }
all_answer() { # what it calls open is tried: server, retrainer, MLflow, Prometheus, Alertmanager, Pushgateway, MinIO, its console
  local status address
  status=$("$scripts/port-forward-all.sh" status) || { printf '%s\n' "$status"; return 1; }
  at_least 8 "$(grep -c '^open ' <<<"$status")" || return 1
  while read -r address; do
    curl --silent --show-error --output /dev/null --max-time 5 "$address" || return 1
  done < <(grep -o 'http://.*' <<<"$status")
}
survives() {
  k -n "$monitoring" delete pod "$(k -n "$monitoring" get pods -o name | grep pushgateway | head -n 1 | cut -d/ -f2)" --wait=true >/dev/null || return 1
  soon 90 all_answer
}
stops() {
  "$scripts/port-forward-all.sh" stop || return 1
  ! "$scripts/port-forward-all.sh" status >/dev/null || { echo "it still runs"; return 1; }
  { pgrep -f 'port-forward --address 127.0.0.1 service/pushgateway 9091:' || true; } | none
}

fact "healthcheck.sh finds the platform well" well
fact "healthcheck.sh tells all six layers as JSON" well_in_json
fact "healthcheck.sh notices a service that is gone and says which" notices
fact "healthcheck.sh has an exit code of its own for wrong usage" cannot_look
fact "port-forward-all.sh opens every service" opens
fact "port-forward-all.sh opens a service again whose pod went away" survives
fact "port-forward-all.sh stops and leaves no process" stops
true
