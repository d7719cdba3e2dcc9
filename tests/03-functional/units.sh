#!/usr/bin/env bash
# The fleet in service: rows come in, are kept and predicted, and the console shows the same.
# shellcheck disable=SC2016  # jq in single quotes
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"
unit=suite-$RANDOM
tunnel "$serving" driftloop-units 8700 || exit 1
api=http://$address
tunnel "$serving" driftloop-console 8400 || exit 1
console=http://$address
(umask 077 && printf 'header = "Authorization: Bearer %s"\n' "$(secret "$serving" retrainer-token token)" >"$scratch/header")
rows=$(jq -nc --arg unit "$unit" '[range(1; 4) | {unit: $unit, cycle: ., setting_1: 35, setting_2: 0.84, setting_3: 100,
  sensor_1: 449.44, sensor_2: 555.32, sensor_3: 1358.61, sensor_4: 1137.23, sensor_5: 5.48, sensor_6: 8, sensor_7: 194.64,
  sensor_8: 2222.65, sensor_9: 8341.91, sensor_10: 1.02, sensor_11: 42.02, sensor_12: 183.06, sensor_13: 2387.72,
  sensor_14: 8048.56, sensor_15: 9.3461, sensor_16: 0.02, sensor_17: 334, sensor_18: 2223, sensor_19: 100, sensor_20: 14.73,
  sensor_21: 8.8071}]')

send() { curl --silent --show-error --max-time 20 --config "$scratch/header" -H 'Content-Type: application/json' "$@"; }
look() { curl --silent --show-error --fail --max-time 20 "$@"; }
stored() { # HOW: what becomes of all three rows
  local answer
  answer=$(send -d "$rows" "$api/telemetry")
  jq -e --arg how "$1" '.rows == 3 and .[$how] == 3' <<<"$answer" >/dev/null || { echo "answer: $answer"; return 1; }
}
predicted() { # the newest step has an answer of the served model
  local answer
  answer=$(look "$api/units/$unit") || return 1
  jq -e '.predictions | length > 0 and (last.rul | type == "number") and (last.version | type == "string")' <<<"$answer" >/dev/null || { echo "answer: ${answer:0:300}"; return 1; }
}
shown() { look "$console/api/v1/fleets/$fleet/units/$unit" | jq -e --arg unit "$unit" '.unit == $unit' >/dev/null; }
page() { look "$console/" | grep -qi '<html'; }
fleet=cmapss
always 'curl --silent --config "$scratch/header" -X DELETE "$api/units/$unit?reason=suite"'

if [[ $model == rul-lstm ]]; then
  fact "rows of a unit are kept" stored stored
  fact "the same rows sent again are known" stored known
  fact "what a unit sent is predicted" soon 60 predicted
  fact "the console shows the unit" soon 30 shown
else
  skip "rows of a unit are kept" "the model $model is of a fleet with other columns than the suite's rows"
fi
fact "the console has its page" page
true
