#!/usr/bin/env bash
# Predictions through the Service, while pods come and go.
# shellcheck disable=SC2016  # jq in single quotes
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"
server=app.kubernetes.io/name=driftloop-server
row=$(jq -nc '[35, 0.84, 100, 449.44, 555.32, 1358.61, 1137.23, 5.48, 8, 194.64, 2222.65, 8341.91, 1.02, 42.02, 183.06, 2387.72, 8048.56, 9.3461, 0.02, 334, 2223, 100, 14.73, 8.8071]')
window=$(jq -nc --argjson row "$row" '{rows: [range(40) | $row], engine_id: "eng-suite"}')
tunnel "$serving" driftloop-server 8500 || exit 1
api=http://$address

post() { curl --silent --max-time 20 -H 'Content-Type: application/json' -d "$1" "$api/predict"; }
predicts() { post "$window" | jq -e '.rul >= 0 and .lower <= .rul and .rul <= .upper and (.model_version | type == "string") and .engine_id == "eng-suite"' >/dev/null || post "$window"; }
predicts_batch() { post "$(jq -nc --argjson w "$window" '{windows: [$w, $w, $w]}')" | jq -e '.predictions | length == 3' >/dev/null; }
same_for_same() { same "$(post "$window" | jq .rul)" "$(post "$window" | jq .rul)"; }
refuses() { # WANTED FIELD BODY
  local body
  body=$(post "$3")
  jq -e --arg field "$2" 'any(.detail[]; .field | contains($field))' <<<"$body" >/dev/null || { echo "$body"; return 1; }
}
served_version() { curl --silent "$api/model" | jq -er .model_version; }
counted() { # every prediction is counted once: over all pods, by the pods' own figures
  local before
  before=$(total)
  for _ in 1 2 3 4 5; do post "$window" >/dev/null; done
  soon 15 counted_to $((before + 5))
}
counted_to() { same "$1" "$(total)"; }
total() { # predictions of all pods
  local pod
  for pod in $(k -n "$serving" get pods -l "$server" -o name); do
    k get --raw "/api/v1/namespaces/$serving/pods/${pod#pod/}:8500/proxy/metrics" | awk '/^driftloop_predictions_total/ {sum += $2} END {print sum + 0}'
  done | awk '{sum += $1} END {print sum + 0}'
}
production() { ask "$mlflow" mlflow:5000 "/api/2.0/mlflow/registered-models/alias?name=$model&alias=production" | jq -er .model_version.version; }
serves_production() { same "$(production)" "$(served_version)"; }

# Predictions from inside the cluster, through the Service, so that every request may meet another pod: one line each.
traffic() { # SECONDS -> "answered failed"
  in_pod "$serving" app.kubernetes.io/name=driftloop-retrainer python3 -c '
import http.client, sys, time
host, body, end, good, bad = sys.argv[1], sys.argv[2], time.monotonic() + float(sys.argv[3]), 0, 0
while time.monotonic() < end:
    try:
        connection = http.client.HTTPConnection(host, 8500, timeout=5)
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        good, bad = (good + 1, bad) if connection.getresponse().status == 200 else (good, bad + 1)
        connection.close()
    except OSError as error:
        bad += 1
        print(error, file=sys.stderr)
    time.sleep(0.02)
print(good, bad)' "driftloop-server.$serving.svc" "$window" "$1"
}
no_failures_during() { # COMMAND...: 40 s of traffic while the command runs
  local answered failed
  traffic 40 >"$scratch/traffic" 2>"$scratch/errors" &
  sleep 3
  "$@" || return 1
  wait $!
  read -r answered failed <"$scratch/traffic"
  echo "answered $answered, failed $failed"
  sort "$scratch/errors" | uniq -c | head -n 5
  [[ $failed == 0 && $answered -gt 100 ]]
}
restarts() { k -n "$serving" rollout restart deployment/driftloop-server >/dev/null && k -n "$serving" rollout status deployment/driftloop-server --timeout=55s; }
loses_a_pod() {
  k -n "$serving" delete "$(k -n "$serving" get pods -l "$server" -o name | head -n 1)" --wait=false >/dev/null && sleep 2
  soon 60 k -n "$serving" rollout status deployment/driftloop-server --timeout=5s
}
keeps_one() { k -n "$serving" get poddisruptionbudgets -o json | jq -e 'any(.items[]; .status.disruptionsAllowed >= 0 and .spec.selector.matchLabels["app.kubernetes.io/name"] == "driftloop-server")' >/dev/null; }
scales() { k -n "$serving" get horizontalpodautoscalers -o json | jq -e 'any(.items[]; .spec.scaleTargetRef.name == "driftloop-server" and any(.status.conditions[]; .type == "AbleToScale" and .status == "True"))' >/dev/null || { k -n "$serving" get hpa; return 1; }; }

fact "a prediction comes with an interval around it and the model's version" predicts
fact "three windows are answered with three predictions" predicts_batch
fact "the same window gives the same prediction" same_for_same
fact "a row that is too short is refused by name" refuses 422 'rows[0]' '{"rows": [[1, 2, 3]]}'
fact "a value that is no number is refused by name" refuses 422 'rows[0][5]' "$(jq -nc --argjson row "$row" '{rows: [$row | .[5] = "x"]}')"
fact "every prediction is counted once" counted
if production >/dev/null 2>&1; then
  fact "the served model is the registry's production" serves_production
else
  skip "the served model is the registry's production" "no model has been promoted yet"
fi
fact "the server has a disruption budget" keeps_one
fact "the server's autoscaler is able to scale" soon 90 scales
fact "no request fails while the server is rolled out anew" no_failures_during restarts
replicas=$(k -n "$serving" get deployment driftloop-server -o json | jq .status.readyReplicas)
if [[ $replicas -ge 2 ]]; then
  fact "no request fails while a pod of the server is deleted" no_failures_during loses_a_pod
else
  skip "no request fails while a pod of the server is deleted" "the server runs one replica"
fi
true
