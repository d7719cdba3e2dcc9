# shellcheck shell=bash
# shellcheck disable=SC2154  # what test.sh has set
# Two fleets on one cluster, each on a platform of its own: one changes, the other does not notice. Sourced by test.sh.

readonly pumps_serving=pumps-serving pumps_mlflow=pumps-mlflow

stage_fleets() {
    local pumps=$state/pumps about_pumps=() sender told_before pods_before report=$results/pumps-traffic.json
    .venv/bin/python "$here/pumps.py" "$pumps"
    # With two servers each, two platforms ask for more than two cores.
    jq -n --arg folder "$pumps" '{
        namespaces: (["storage", "mlflow", "kubeflow", "monitoring", "serving", "gitops", "logs", "doors"] | map({key: ., value: "pumps-\(.)"}) | from_entries),
        node_exporter: false, server_replicas: {minimum: 1, maximum: 2, cpu: "800m"}, fleet_file: "\($folder)/pumps.toml", fleet_runs: "\($folder)/runs.csv",
        observability_dir: "\($folder)/observability"}' >"$pumps/platform.json"
    pumps_ansible pumps-installed
    pumps_ansible pumps-again
    unchanged pumps-again

    pumps_variables
    behind "$state/traffic.pid" env "${about_pumps[@]}" .venv/bin/python "$here/traffic.py" "$(address_of $pumps_serving driftloop-server)" "$report" --rate 20 \
        --healthy "$pumps/runs.csv" --changed "$pumps/runs.csv" >"$results/pumps-traffic.log" 2>&1
    sender=$!
    soon 240 pumps_verdict no_drift || die "the pumps do not count as unchanged: $(tail -n 3 "$results/pumps-traffic.log")"
    told_before=$(pumps_told) pods_before=$(pumps_pods)

    platform_variables
    forward start || die "the tunnels do not open: $(<"$results/port-forward.log")"
    if (($(sql mlflow 'SELECT count(*) FROM model_versions') >= 2)); then unseen_again 4; fi
    forward stop
    stage_loop

    kill -0 "$(<"$state/traffic.pid")" || die "the pumps' traffic ended by itself: $(tail -n 3 "$results/pumps-traffic.log")"
    kill "$(<"$state/traffic.pid")"
    wait "$sender" || die "the pumps' traffic has no report: $(tail -n 3 "$results/pumps-traffic.log")"
    jq -r '"pumps meanwhile: \(.failed) of \(.sent) requests failed, median \(.median_s) s, slowest \(.slowest_s) s, answered by \(.versions)"' "$report"
    jq -e '.failed == 0 and (.versions | length) == 1' "$report" >/dev/null || die "the pumps noticed: $(jq -c '[.failures, .versions]' "$report")"
    pumps_verdict no_drift || die "the pumps count as changed"
    diff <(printf '%s\n' "$told_before") <(pumps_told) >&2 || die "the pumps' loop was told of the other fleet"
    diff <(printf '%s\n' "$pods_before") <(pumps_pods) >&2 || die "pods of the pumps' platform were started anew"
    say "memory of the second platform: $(for each in storage mlflow monitoring serving; do k -n "pumps-$each" top pods --no-headers; done | awk '{sum += $3} END {print sum " MiB"}')"

    k delete namespace --wait pumps-storage pumps-mlflow pumps-monitoring pumps-serving >/dev/null
    k delete clusterrole,clusterrolebinding prometheus-pumps-monitoring prometheus-operator-pumps-monitoring >/dev/null
    # And nothing that is the first platform's was touched, when the second came or when it went.
    ansible without-pumps
    unchanged without-pumps
}

pumps_ansible() { DRIFTLOOP_CONFIG_DIR=$pumps/secrets ansible "$1" -e "@$pumps/platform.json"; } # NAME

# Sets `about_pumps`, the variables of commands that are about them.
pumps_variables() {
    (umask 077 && k -n $pumps_serving get secret retrainer-token -o 'jsonpath={.data.token}' | base64 -d >"$pumps/token")
    about_pumps=(DRIFTLOOP_FLEET="$pumps/pumps.toml" DRIFTLOOP_STATE_DIR="$pumps/state" DRIFTLOOP_TOKEN_FILE="$pumps/token"
        DRIFTLOOP_SERVER_URL="$(address_of $pumps_serving driftloop-server)"
        DRIFTLOOP_RETRAINER_URL="$(address_of $pumps_serving driftloop-retrainer)"
        DRIFTLOOP_MLFLOW_URL="$(address_of $pumps_mlflow mlflow)")
}

pumps_verdict() { # VERDICT
    k get --raw "/api/v1/namespaces/pumps-monitoring/services/prometheus:9090/proxy/api/v1/query?query=driftloop_drift_verdict%7Bverdict%3D%22$1%22%7D%3D%3D1" |
        jq -e '.data.result | length > 0' >/dev/null
}

# What the pumps' loop has been told, but for what its own watch says every time that it looks.
pumps_told() { on_node env "${about_pumps[@]}" .venv/bin/driftloop events --json | jq -c 'select(.kind != "verdict") | [.seq, .kind, .cause]'; }

pumps_pods() {
    k -n $pumps_serving get pods -o json | jq -r '.items[] | select(.metadata.ownerReferences[0].kind != "Job")
        | "\(.metadata.name) \([.status.containerStatuses[].restartCount] | add)"' | sort
}
