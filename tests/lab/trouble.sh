# shellcheck shell=bash
# shellcheck disable=SC2154  # what test.sh has set
# What happens to a machine: a volume that can only be read, a certificate that has expired, a disk that is full. For each what
# people see, and that the platform is well again by itself once the cause is gone. Sourced by test.sh.

stage_trouble() {
    local sender report=$results/trouble-traffic.json
    [[ -f $state/disk.img ]] || die "the lab has no disk that may be full: DRIFTLOOP_LAB_DISK=8G $here/lab.sh up"
    addresses
    behind "$state/traffic.pid" .venv/bin/python "$here/traffic.py" "$DRIFTLOOP_SERVER_URL" "$report" --rate 20 >"$results/trouble-traffic.log" 2>&1
    sender=$!
    database_that_can_only_be_read
    certificate_that_has_expired
    clock_that_is_a_day_off
    kill "$(<"$state/traffic.pid")"
    wait "$sender" || die "the traffic has no report: $(tail -n 3 "$results/trouble-traffic.log")"
    jq -r '"meanwhile: \(.failed) of \(.sent) requests failed, slowest \(.slowest_s) s"' "$report"
    jq -e '.failed == 0' "$report" >/dev/null || die "predictions failed: $(jq -c .failures "$report")"
    disk_that_is_full
    ansible after-trouble
    unchanged after-trouble
    suite suite-after-trouble
}

# PostgreSQL's volume: MLflow and the fleet in service refuse what they cannot keep, in words; predictions go on.
database_that_can_only_be_read() {
    local volume answer
    volume=$(k get persistentvolume "$(k -n storage get pvc data-postgres-0 -o 'jsonpath={.spec.volumeName}')" -o 'jsonpath={.spec.hostPath.path}{.spec.local.path}')
    node mount --bind "$volume" "$volume"
    node mount -o remount,bind,ro "$volume"
    k -n storage delete pod postgres-0 --wait=false >/dev/null
    soon 120 mlflow_refuses || die "MLflow keeps an experiment on a database that can only be read"
    answer=$(send_row) || true
    [[ $answer == 503* ]] || die "the fleet in service answers a row that it cannot keep with $answer"
    say "database read-only: MLflow and the fleet in service refuse; the latter says: ${answer:4:200}"
    if "$state/observability/healthcheck.sh" >"$results/healthcheck-database.log" 2>&1; then die "healthcheck.sh finds nothing wrong"; fi
    grep -q postgres "$results/healthcheck-database.log" || die "healthcheck.sh does not name PostgreSQL: $(<"$results/healthcheck-database.log")"
    node umount "$volume"
    healed "the database can be written again"
    soon 120 row_is_kept || die "the fleet in service does not take the row that it refused: $(send_row)"
}

# The API server's: whoever manages the platform is told why, everything that runs goes on.
certificate_that_has_expired() {
    local said
    "$here/lab.sh" certificates -1 3>&- 4>&-
    soon 60 expired || die "the certificate has expired, and kubectl says: $(k get nodes 2>&1 | tail -n 1)"
    said=$(k get nodes 2>&1 | tail -n 1 || true)
    # Long enough for the node to count as lost, and for its pods to be put elsewhere if there were an elsewhere.
    sleep 60
    on_node curl --silent --fail --max-time 10 "$DRIFTLOOP_RETRAINER_URL/readyz" >/dev/null || die "the retrainer is not ready without the API server"
    say "certificate expired: ${said:0:160}"
    "$here/lab.sh" certificates 30 3>&- 4>&-
    healed "the certificate is good again"
}

# A node's clock would be this machine's too. In its place the processes of driftloop alone believe that it is tomorrow, and then
# that it is today again: what waits must not wait for a day.
clock_that_is_a_day_off() {
    local each name before now said
    (cd "$state" && apt-get download -qq libfaketime >/dev/null 2>&1 && dpkg -x libfaketime_*.deb faketime) || die "libfaketime cannot be had"
    k -n serving create configmap faketime --from-file=libfaketime.so="$(find "$state/faketime" -name libfaketimeMT.so.1)" >/dev/null
    before=$(driftloop events --json | jq -s 'last.seq')
    for each in "${clocks[@]}"; do
        name=${each#*/}
        k -n serving patch "$each" --patch "{\"spec\": {\"template\": {\"spec\": {
            \"volumes\": [{\"name\": \"faketime\", \"configMap\": {\"name\": \"faketime\"}}],
            \"containers\": [{\"name\": $(k -n serving get "$each" -o json | jq .spec.template.spec.containers[0].name),
                \"volumeMounts\": [{\"name\": \"faketime\", \"mountPath\": \"/faketime\", \"readOnly\": true}],
                \"env\": [{\"name\": \"LD_PRELOAD\", \"value\": \"/faketime/libfaketime.so\"}, {\"name\": \"FAKETIME\", \"value\": \"+1d\"},
                    {\"name\": \"DONT_FAKE_MONOTONIC\", \"value\": \"1\"}]}]}}}}" >/dev/null
    done
    for each in "${clocks[@]}"; do
        k -n serving rollout status "$each" --timeout=180s >/dev/null || die "$each does not start where it is tomorrow"
        now=$(k -n serving exec "$each" -- python3 -c 'import time; print(int(time.time()))')
        ((now > $(date +%s) + 80000)) || die "$each knows what day it is: this shows nothing"
    done
    # An object store takes nothing from whose clock is far off, and says so.
    if said=$(add_run 5 2>&1); then die "the store takes a run from tomorrow"; fi
    [[ $said == *503*RequestTimeTooSkewed* ]] || die "a run from tomorrow is not refused in words: $said"
    say "a day ahead: $(grep -o 'cannot be listed: .*' <<<"$said" | head -n 1 | cut -c1-160)"
    [[ $(send_row) == 200* ]] || die "the fleet in service refuses a row while it is tomorrow: $(send_row)"
    for each in "${clocks[@]}"; do k -n serving rollout undo "$each" >/dev/null; done
    for each in "${clocks[@]}"; do k -n serving rollout status "$each" --timeout=180s >/dev/null || die "$each does not start again"; done
    k -n serving delete configmap faketime >/dev/null
    healed "the clock is right again"
    add_run 5 || die "the store does not take the run when it is today again"
    [[ $(send_row) == 200* ]] || die "the fleet in service refuses a row when it is today again: $(send_row)"
    driftloop events --json | jq -es --argjson before "$before" '[.[].seq | select(. >= $before)] as $n | $n == [range($before; $before + ($n | length))]' >/dev/null ||
        die "events are missing or out of order"
}

readonly clocks=(deployment/driftloop-server deployment/driftloop-watch statefulset/driftloop-retrainer deployment/driftloop-units)

# The node's: it says so, and so do people's tools; what was written is there afterwards.
# shellcheck disable=SC2016  # for the shell on the node
disk_that_is_full() {
    local before after
    before=$(driftloop events --json | jq -s length)
    # All but a little: what writes now fails, and the kubelet counts the node as full.
    node sh -euc 'fallocate -l $(($(df --output=avail -B 1 "$0" | tail -n 1) - 8388608)) "$0/filler"' "$state/disk"
    soon 120 pressed || die "the node does not say that its disk is full"
    soon 60 sick || die "healthcheck.sh finds nothing wrong with a full disk"
    say "disk full: $(grep -iE 'disk|pressure' "$results/healthcheck-disk.log" | head -n 2 | tr '\n' ' ')"
    sleep 30
    k get pods -A | grep -cE 'Evicted|ContainerStatusUnknown|Error' >"$results/evicted" || true
    node rm "$state/disk/filler"
    # The kubelet lets a node go five minutes after the pressure has.
    healed "there is room again; $(<"$results/evicted") pods had been evicted" 900
    after=$(driftloop events --json | jq -s length)
    ((after >= before)) || die "events were lost: $before before, $after after"
}

node() { nsenter --target "$(<"$state/init.pid")" --mount --pid --net -- "$@"; }

# Waits until every pod is ready again, and says how long it took: WHAT [SECONDS]
healed() {
    local began=$SECONDS
    soon "${2:-420}" all_well || die "$1, but not every pod is ready: $(k get pods -A 2>&1 | grep -vE 'Running|Completed')"
    say "$1: everything is ready after $((SECONDS - began)) s"
}

all_well() { k get nodes >/dev/null && ! pressed && all_ready && serves_production && ! mlflow_refuses; }

mlflow_refuses() {
    ! on_node curl --silent --fail --output /dev/null --max-time 10 -H 'Content-Type: application/json' -d "{\"name\": \"trouble-$RANDOM$RANDOM\"}" \
        "$DRIFTLOOP_MLFLOW_URL/api/2.0/mlflow/experiments/create"
}

# One row of a unit: the status, then the answer. The same row again is known.
send_row() {
    local row
    row=$(jq -nc '[{unit: "trouble", cycle: 1} + ([range(1; 4) | {"setting_\(.)": 0}] | add) + ([range(1; 22) | {"sensor_\(.)": 500}] | add)]')
    on_node curl --silent --max-time 20 --write-out '\n%{http_code}' -H 'Content-Type: application/json' \
        -H "Authorization: Bearer $(<"$state/token")" -d "$row" "$(address_of serving driftloop-units)/telemetry" | tac | tr '\n' ' '
}

row_is_kept() { [[ $(send_row) == 200* ]]; }

expired() { [[ $(k get nodes 2>&1 || true) == *expired* ]]; }

pressed() { k get nodes -o json | jq -e '[.items[].status.conditions[] | select(.type == "DiskPressure" and .status == "True")] | length > 0' >/dev/null; }

sick() { ! "$state/observability/healthcheck.sh" >"$results/healthcheck-disk.log" 2>&1; }
