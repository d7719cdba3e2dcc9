#!/usr/bin/env bash
# From the alert to the retrainer, and what the loop must not forget.
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"
retrainer=app.kubernetes.io/name=driftloop-retrainer
tunnel "$serving" driftloop-retrainer 8600 || exit 1
api=http://$address

token() { k -n "$serving" get secret retrainer-token -o json | jq -er '.data | to_entries[0].value' | base64 -d; }
authorized() { curl --silent --show-error --fail-with-body --max-time 30 -K <(printf 'header = "Authorization: Bearer %s"\n' "$(token)") "$@"; }
events() { curl --silent --max-time 20 "$api/events?after=${1:-0}"; }
saw() { # KIND CAUSE: an event
  events "$start" | jq -e --arg kind "$1" --arg cause "$2" 'any(.events[]; .kind == $kind and ((.cause // "") | contains($cause)))' >/dev/null || { events "$start" | jq -c '.events[]' | tail -n 5; return 1; }
}
alerts() { # an alert handed to Alertmanager comes out at the retrainer
  [[ $start ]] || { echo "the retrainer tells no events"; return 1; }
  tunnel "$monitoring" alertmanager 9093 || return 1
  curl --silent --show-error --fail -H 'Content-Type: application/json' "http://$address/api/v2/alerts" -d "[{\"labels\": {\"alertname\": \"DriftloopDrift\", \"model_version\": \"$mark\", \"kind\": \"sensor_fault\", \"features\": \"sensor_2\"}, \"annotations\": {\"summary\": \"suite\", \"n\": \"300\", \"score\": \"2\"}}]" || return 1
  soon 60 saw alert_firing "sensor_fault:$mark"
}
keeps_events() {
  local before
  before=$(events | jq '.events | length')
  at_least 1 "$before" || return 1
  k -n "$serving" delete pod -l "$retrainer" --wait=true >/dev/null || return 1
  soon 120 k -n "$serving" wait --for=condition=Ready pod -l "$retrainer" --timeout=5s || return 1
  tunnel "$serving" driftloop-retrainer 8600 || return 1
  api=http://$address
  at_least "$before" "$(events | jq '.events | length')"
}
archives() { # the same runs twice: added, then known
  local runs field answer
  # Rows of their own each time: the same rows under another id are known. They show no wear, so somebody vouches for them.
  runs=$(jq -nc --arg mark "$mark" '{runs: [{run_id: "eng-suite\($mark)", confirmed: true,
    rows: [range(60) | [range(24) | . + ($mark | tonumber) / 1e8]]}]}')
  for field in added known; do
    answer=$(authorized -H 'Content-Type: application/json' -d "$runs" "$api/archive/runs") || { echo "$answer"; return 1; }
    jq -e --arg field "$field" '.[$field] | length == 1' <<<"$answer" >/dev/null || { echo "not $field: $answer"; return 1; }
  done
}
status_told() {
  local status
  status=$(curl --silent --show-error --fail --max-time 20 "$api/status")
  jq -e '.state | type == "string"' <<<"$status" >/dev/null || { echo "status: $status"; return 1; }
}
baseline_mirrored() { # by the CronJob, run now: the ConfigMap is the production version's
  local job=suite-mirror-$mark
  k -n "$serving" create job "$job" --from=cronjob/baseline-mirror >/dev/null || return 1
  always "k -n '$serving' delete job '$job' --wait=false"
  soon 120 k -n "$serving" wait --for=condition=Complete "job/$job" --timeout=5s >/dev/null || { k -n "$serving" logs "job/$job" --tail=20; k -n "$serving" get job,pods -l "job-name=$job" 2>&1; return 1; }
  k -n "$serving" get configmap evidently-baseline -o json >"$scratch/mirror" || return 1
  local version
  version=$(production) || return 1
  same "$version" "$(jq -r '.metadata.annotations["driftloop/model-version"]' "$scratch/mirror")" || return 1
  at_least 11 "$(jq -r '.binaryData["baseline.json.gz"]' "$scratch/mirror" | base64 -d | gzip -dc | jq '.features | length')"
}
report_scheduled() { # and not suspended
  local found
  found=$(k -n "$serving" get cronjob drift-report -o json | jq -r '"\(.spec.suspend // false) \(.spec.schedule)"') || return 1
  [[ $found =~ ^false\ [0-9]{1,2}(\ \*){4}$ ]] || { echo "suspended, schedule: $found"; return 1; }
}
mark=$RANDOM$RANDOM
# An archived run stays for ever: one whose role is to send traffic is never learnt from.
until [[ $("$python" -c 'import sys; from driftloop.fleet.runs import role_of; print(role_of(sys.argv[1]))' "eng-suite$mark") == live ]]; do
  mark=$RANDOM$RANDOM
done
start=$(events | jq .next)

fact "the retrainer tells its status" status_told
fact "an alert goes from Alertmanager to the retrainer by itself" alerts
fact "a completed run is archived once, however often it is sent" archives
fact "the event log survives the end of the retrainer's pod" keeps_events
fact "the drift report is made every hour" report_scheduled
if promoted; then
  fact "the production model's baseline is mirrored to a ConfigMap" baseline_mirrored
else
  skip "the production model's baseline is mirrored to a ConfigMap" "no model has been promoted yet"
fi
true
