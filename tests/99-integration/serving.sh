#!/usr/bin/env bash
# Predictions through the Service, while pods come and go.
# shellcheck disable=SC2016  # jq in single quotes
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"
server=app.kubernetes.io/name=driftloop-server
row=$(jq -nc '[35, 0.84, 100, 449.44, 555.32, 1358.61, 1137.23, 5.48, 8, 194.64, 2222.65, 8341.91, 1.02, 42.02, 183.06, 2387.72, 8048.56, 9.3461, 0.02, 334, 2223, 100, 14.73, 8.8071]')
window=$(jq -nc --argjson row "$row" '{rows: [range(40) | $row], engine_id: "eng-suite"}')
tunnel "$serving" driftloop-server 8500 || exit 1
api=http://$address

post() { curl --silent --show-error --max-time 20 -H 'Content-Type: application/json' "$@" "$api/predict"; } # CURL ARGUMENTS...
answers() { # BODY JQ CONDITION
  local answer
  answer=$(post -d "$1") || return 1
  jq -e "$2" <<<"$answer" >/dev/null || { echo "answer: $answer"; return 1; }
}
predicts() { answers "$window" '(.rul | type) == "number" and .rul >= 0 and .lower <= .rul and .rul <= .upper and (.model_version | type == "string") and .engine_id == "eng-suite"'; }
predicts_batch() { answers "$(jq -nc --argjson w "$window" '{windows: [$w, $w, $w]}')" '[.predictions[].rul | numbers] | length == 3'; }
same_for_same() {
  local first
  first=$(post -d "$window" | jq .rul)
  at_least 0 "$first" && same "$first" "$(post -d "$window" | jq .rul)"
}
refuses() { # STATUS FIELD BODY
  local body status
  status=$(post --output "$scratch/body" --write-out '%{http_code}' -d "$3") || return 1
  body=$(<"$scratch/body")
  same "$1" "$status" || { echo "$body"; return 1; }
  jq -e --arg field "$2" 'any(.detail[]; .field | contains($field))' <<<"$body" >/dev/null || { echo "$body"; return 1; }
}
served_version() { curl --silent --show-error --max-time 20 "$api/model" | jq -er .model_version; }
counted() { # every prediction is counted once: over all pods, by the pods' own figures
  local before
  before=$(total) || return 1
  for _ in 1 2 3 4 5; do post -d "$window" >/dev/null; done
  soon 15 counted_to $((before + 5))
}
counted_to() { same "$1" "$(total)"; }
total() { # predictions of all pods
  local pod
  for pod in $(k -n "$serving" get pods -l "$server" -o name); do
    k get --raw "/api/v1/namespaces/$serving/pods/${pod#pod/}:8500/proxy/metrics" | awk '/^driftloop_predictions_total/ {sum += $2} END {print sum + 0}' || exit 1
  done | awk '{sum += $1} END {print sum + 0}'
}
serves_production() {
  local version
  version=$(production) && same "$version" "$(served_version)"
}

# Predictions from inside the cluster, through the Service, so that every request may meet another pod, until standard
# input ends and there are enough to say something, however slow the machine is -> "answered failed"
traffic() {
  "${kubectl[@]}" -n "$serving" exec -i statefulset/driftloop-retrainer -- python3 -c '
import http.client, sys, threading, time
host, body, good, bad, told = sys.argv[1], sys.argv[2], 0, 0, threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
end = time.monotonic() + 180
while (not told.is_set() or good + bad <= 100) and time.monotonic() < end:
    try:
        connection = http.client.HTTPConnection(host, 8500, timeout=5)
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        good, bad = (good + 1, bad) if connection.getresponse().status == 200 else (good, bad + 1)
        connection.close()
    except OSError as error:
        bad += 1
        print(error, file=sys.stderr)
    time.sleep(0.02)
print(good, bad, flush=True)' "driftloop-server.$serving.svc" "$window"
}
no_failures_during() { # COMMAND...: traffic from before the command until after it
  local answered='' failed='' hold done=0
  rm -f "$scratch/hold"
  mkfifo "$scratch/hold"
  traffic <"$scratch/hold" >"$scratch/traffic" 2>"$scratch/errors" &
  exec {hold}>"$scratch/hold"
  sleep 3
  "$@" || done=1
  sleep 5
  exec {hold}>&-
  wait $!
  read -r answered failed <"$scratch/traffic"
  echo "answered $answered, failed $failed"
  sort "$scratch/errors" | uniq -c | head -n 5
  [[ $done == 0 && $failed == 0 && $answered -gt 100 ]]
}
restarts() { k -n "$serving" rollout restart deployment/driftloop-server >/dev/null && k -n "$serving" rollout status deployment/driftloop-server --timeout=55s; }
loses_a_pod() {
  k -n "$serving" delete "$(k -n "$serving" get pods -l "$server" -o name | head -n 1)" --wait=false >/dev/null && sleep 2
  soon 60 k -n "$serving" rollout status deployment/driftloop-server --timeout=5s
}
keeps_one() { # it knows the server's pods, they are as many as it wants, and at most one of them may leave
  local budgets
  budgets=$(k -n "$serving" get poddisruptionbudgets -o json | jq -c '[.items[] | select(.spec.selector.matchLabels["app.kubernetes.io/name"] == "driftloop-server") | .status]')
  jq -e 'any(.[]; .expectedPods >= 1 and .currentHealthy >= .desiredHealthy and .disruptionsAllowed <= 1)' <<<"$budgets" >/dev/null || { echo "budgets: $budgets"; return 1; }
}
scales() { # it may scale, and has figures to scale by
  local conditions
  conditions=$(k -n "$serving" get horizontalpodautoscalers -o json | jq -c '[.items[] | select(.spec.scaleTargetRef.name == "driftloop-server") | .status.conditions[]? | {(.type): .status}] | add')
  jq -e '.AbleToScale == "True" and .ScalingActive == "True"' <<<"$conditions" >/dev/null || { echo "conditions: $conditions"; return 1; }
}

fact "a prediction comes with an interval around it and the model's version" predicts
fact "three windows are answered with three predictions" predicts_batch
fact "the same window gives the same prediction" same_for_same
fact "a row that is too short is refused by name" refuses 422 'rows[0]' '{"rows": [[1, 2, 3]]}'
fact "a value that is no number is refused by name" refuses 422 'rows[0][5]' "$(jq -nc --argjson row "$row" '{rows: [$row | .[5] = "x"]}')"
fact "every prediction is counted once" counted
if promoted; then
  fact "the served model is the registry's production" serves_production
else
  skip "the served model is the registry's production" "no model has been promoted yet"
fi
fact "the server has a disruption budget" soon 30 keeps_one
fact "the server's autoscaler is able to scale" soon 90 scales
fact "no request fails while the server is rolled out anew" no_failures_during restarts
if [[ $(k -n "$serving" get deployment driftloop-server -o json | jq .spec.replicas) == 1 ]]; then
  skip "no request fails while a pod of the server is deleted" "the server runs one replica"
else
  fact "no request fails while a pod of the server is deleted" no_failures_during loses_a_pod
fi
true
