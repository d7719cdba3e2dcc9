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
# The first row of NASA's FD001: healthy, so that the watch has nothing to see in it.
rows=$(jq -nc --arg unit "$unit" '[range(1; 4) | {unit: $unit, cycle: ., setting_1: -0.0007, setting_2: -0.0004, setting_3: 100,
  sensor_1: 518.67, sensor_2: 641.82, sensor_3: 1589.70, sensor_4: 1400.60, sensor_5: 14.62, sensor_6: 21.61, sensor_7: 554.36,
  sensor_8: 2388.06, sensor_9: 9046.19, sensor_10: 1.30, sensor_11: 47.47, sensor_12: 521.66, sensor_13: 2388.02,
  sensor_14: 8138.62, sensor_15: 8.4195, sensor_16: 0.03, sensor_17: 392, sensor_18: 2388, sensor_19: 100, sensor_20: 39.06,
  sensor_21: 23.4190}]')

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
