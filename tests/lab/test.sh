#!/usr/bin/env bash
# Proves the playbooks and the closed loop on a real Kubernetes, from nothing to nothing, in stages:
#
#   up         start the lab
#   images     build what is not cached and bring it to the node
#   site*      all of site.yml in one piece: tests/host/run.sh site, on a lab that is made anew afterwards
#   install    the playbooks of the cluster, for the first time
#   again      once more: nothing changes
#   loop       change the fleet under traffic: the platform recovers by itself, no request is refused or lost
#   settled    after the loop, with another number of servers: nothing changes, and check mode finds nothing to do
#   suite      tests/run-all.sh
#   flows      every pod tries every port that listens: what the NetworkPolicies let through answers, nothing else does
#   panels*    every panel of every dashboard has data, or is named with the part that it needs
#   broken*    one cause after another broken on purpose: each fact of the suite is seen failing
#   restore*   a platform with two promoted versions is backed up, taken down to nothing and restored: the same model, archive
#              and events; then the loop closes again
#   repair     one object of each component deleted or altered: exactly these are repaired
#   faults*    PostgreSQL and the Pushgateway refuse their clients, every pod is deleted in turn and containerd killed while
#              the fleet changes again: it recovers, nothing is lost
#   gitops+    Git says what runs: pushed by the playbooks, applied and put back by Flux; an image tried in staging and
#              promoted by its digest; off without a trace
#   bucket+    the same by a bucket of the platform's own object store, where there is no Git server
#   seaweedfs+ the same platform moved to SeaweedFS, its suite and its loop there, and moved back to MinIO
#   logs+      central logs: every line is there, what is sent in bulk too; searches, an alert; off without a trace
#   people+    the doors for people: browsers get in by a file of passwords and by an OpenID Connect provider, and do not
#   fleets+    a second platform with another fleet beside it: the first fleet changes, the second does not notice
#   upgrade-   an earlier version installed, then upgraded to this one under traffic and while it retrains; what going back says
#   trouble-   PostgreSQL's volume read-only, the API server's certificate expired, the node's disk full: what people see, and that
#              it heals
#   down       stop the lab and show that nothing is left
#
# Usage: test.sh [--full | --additions | --upgrade | --trouble] [--strict] [--keep] [STAGE...]
#   with stages, these on the lab as it is; else those without a mark
#   --full       those with a star as well
#   --additions  up, images, install, loop, those with a plus, down
#   --upgrade    upgrade, on a lab of its own, and down; DRIFTLOOP_UPGRADE_FROM names the version (v0.1.0)
#   --trouble    up with a disk of its own, images, install, loop, trouble, down
#   --strict     how long things take decides too: for a machine that does nothing else
#   --keep       leave the lab up at the end and after a failure
# Environment: CMAPSS_DIR (NASA's data; the simulator stands in), DRIFTLOOP_LAB_RESULTS (a folder for the experiment's
# results, ansible's logs and the evidence of failures), DRIFTLOOP_LAB_STORE (minio, or seaweedfs), DRIFTLOOP_BUILD_CA (see
# files/images/build.sh), and lab.sh's.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
cd "$repo"
results=${DRIFTLOOP_LAB_RESULTS:-$(mktemp -d /tmp/driftloop-lab-results.XXXXXX)}
state=${DRIFTLOOP_LAB_STATE:-/var/tmp/driftloop-lab}
object_store=${DRIFTLOOP_LAB_STORE:-minio}
mkdir -p "$results"

readonly core=(up images install again loop settled suite flows repair down)
readonly full=(up images site install again loop settled suite flows panels broken repair restore faults down)
readonly additions=(up images install loop gitops bucket seaweedfs fleets logs people down)
readonly upgrade=(upgrade down)
readonly trouble=(up images install loop trouble down)
readonly playbooks=(playbooks/00-bootstrap-scripts.yml playbooks/04-minio.yml playbooks/05-postgres.yml
    playbooks/06-kfp-standalone.yml playbooks/07-mlflow.yml playbooks/08-monitoring.yml playbooks/09-fastapi.yml
    playbooks/12-evidently.yml playbooks/13-baseline-refresh.yml playbooks/14-kfp-retraining.yml playbooks/15-first-model.yml
    playbooks/16-console.yml playbooks/17-units.yml playbooks/18-backup.yml playbooks/20-gitops.yml playbooks/21-logs.yml playbooks/22-doors.yml)
readonly core_recovery_s=60
strict='' stage='' passed=() started=()

readonly program=test-lab
# shellcheck source=../../scripts/shell.sh
source "$repo/scripts/shell.sh"
# shellcheck source=additions.sh
source "$here/additions.sh"
# shellcheck source=store.sh
source "$here/store.sh"
# shellcheck source=fleets.sh
source "$here/fleets.sh"
# shellcheck source=trouble.sh
source "$here/trouble.sh"
# shellcheck source=upgrade.sh
source "$here/upgrade.sh"

k() { "$state/kubectl" "$@"; }

# In the lab's network, which is the node's: its loopback is free, whatever runs on this machine's. And with the weight of
# the node's own programs.
on_node() {
    (
        echo 0 >"$(<"$state/node-cgroup")"
        exec nsenter --target "$(<"$state/init.pid")" --net -- "$@"
    )
}

# The same behind this script, whose own child is not the command itself: FILE, for the command's pid, and COMMAND...
behind() {
    rm -f "$1"
    started+=("$1")
    # shellcheck disable=SC2016  # for the shell on the node
    on_node bash -c 'echo $$ >"$0"; exec "$@"' "$@" <&0 &
    within 30 test -s "$1" >/dev/null || die "it does not start: ${*:2}"
}

# Variables of the lab for this process; again after `up`, which makes what they name.
enter() {
    local variables
    variables=$("$here/lab.sh" env)
    eval "$variables"
    printf '#!/bin/sh\nexec %s "$@"\n' "$DRIFTLOOP_KUBECTL" >"$state/kubectl"
    chmod +x "$state/kubectl"
}

# The playbooks of the cluster in order. ansible NAME [OPTION...]
ansible() { play "$1" "${playbooks[@]}" "${@:2}"; }

# Some playbooks; the log is $results/NAME.log. play NAME PLAYBOOK... [OPTION...]
play() {
    local name=$1
    shift
    .venv-ansible/bin/ansible-playbook \
        -e "platform_home=$state/platform" -e "observability_dir=$state/observability" -e "object_store=$object_store" "$@" >"$results/$name.log" 2>&1 || {
        grep -A 15 -E 'fatal:|FAILED' "$results/$name.log" | tail -n 40 >&2
        die "the playbooks failed; all of it: $results/$name.log"
    }
}

# Tasks that the last run called changed, one a line: NAME
changed() { awk '/^TASK \[/ {task = $0} /^changed: / {print task}' "$results/$1.log"; }

unchanged() { # NAME
    local found
    found=$(changed "$1")
    [[ -z $found ]] || die "these tasks report a change where nothing was to do: $found"
}

platform_variables() {
    # shellcheck disable=SC2030,SC2031
    export DRIFTLOOP_SERVER_URL=http://127.0.0.1:8500 DRIFTLOOP_RETRAINER_URL=http://127.0.0.1:8600 \
        DRIFTLOOP_MLFLOW_URL=http://127.0.0.1:5500 DRIFTLOOP_STATE_DIR=$state/experiment DRIFTLOOP_TOKEN_FILE=$state/token
    platform_token
}

platform_token() { (umask 077 && k -n serving get secret retrainer-token -o 'jsonpath={.data.token}' | base64 -d >"$state/token"); }

forward() { on_node "$state/observability/port-forward-all.sh" "$1" >"$results/port-forward.log" 2>&1; }

driftloop() { on_node .venv/bin/driftloop "$@"; }

# --- stages -------------------------------------------------------------------------------------------------------

stage_up() {
    "$here/lab.sh" up 3>&- 4>&-
    enter
}

stage_images() {
    local name
    for name in "$object_store" store-setup postgres mlflow prometheus-operator prometheus alertmanager pushgateway node-exporter server drift trainer units backup; do
        files/images/build.sh import "$name"
    done
    # From now on a lab needs little room of its own.
    touch "$DRIFTLOOP_IMAGES_CACHE/filled"
}

stage_site() {
    "$repo/tests/host/run.sh" site | tee "$results/site.log"
    # Its secrets and objects are those of the machine that is gone.
    "$here/lab.sh" down
    stage_up
}

stage_install() {
    # Playbook 10 does this on a machine of the platform's own.
    if [[ -n ${CMAPSS_DIR:-} ]]; then
        install -D -m 644 "$CMAPSS_DIR/train_FD001.txt" "$state/platform/data/raw/cmapss/train_FD001.txt"
    fi
    ansible install
}

stage_again() {
    ansible again
    unchanged again
}

stage_loop() {
    local metrics=$results/recovery/recovery_metrics.json events=$results/recovery/recovery_events.jsonl found
    platform_variables
    forward start || die "the tunnels do not open: $(<"$results/port-forward.log")"
    driftloop experiment --results "$results/recovery" --timeout-s 900 >"$results/experiment.log" 2>&1 || {
        tail -n 40 "$results/experiment.log" >&2
        die "the platform did not recover; see $results"
    }
    forward stop
    jq -r '"T0 to T1 \(.detection_s) s, T1 to T4 \(.core_recovery_s) s, T0 to T5 \(.total_s) s, \(.requests_failed) of \(.requests_total) requests failed, slowest answer \(.latency_ms.max) ms, data: \(.data_source)"' "$metrics"
    found=$(jq -r --slurpfile events "$events" "$what_is_wrong" "$metrics" && served_by_all "$(jq -r .challenger_version "$metrics")")
    [[ -z $found ]] || die "that is not what the platform must reach: $found"
    in_time "$metrics"
}

# What a recovery must be however slow the machine is, as jq's messages: none where it is. A request that only waited longer
# than the client's patience is no fault of the platform on a machine that others use too.
# shellcheck disable=SC2016  # jq's variables
readonly what_is_wrong='
    (select(.recovered | not) | "not recovered: \(.missing)"),
    ([.t0, .t1, .t2, .t_rt, .t4, .t5] | select(. != sort) | "its marks are out of order: \(.)"),
    (.t1 as $t1 | [$events[] | select(.kind == "alert_firing") | .cause] as $alerts
        | first($events[] | select(.kind == "retraining_started" and .time >= $t1))
        | select(.cause | IN($alerts[]) | not) | "the retraining was not started by an alert: \(.)"),
    (.failures | to_entries[] | select(.key | startswith("no answer within ") | not) | "\(.value) requests failed: \(.key)")'

served_by_all() { # VERSION: names the servers that serve another
    local pod served
    for pod in $(k -n serving get pods -l app.kubernetes.io/name=driftloop-server -o 'jsonpath={.items[*].metadata.name}'); do
        served=$(k get --raw "/api/v1/namespaces/serving/pods/$pod:8500/proxy/model" | jq -r .model_version)
        [[ $served == "$1" ]] || printf '%s serves version %s instead of %s\n' "$pod" "$served" "$1"
    done
}

in_time() { # METRICS: says what was slower than it should be; with --strict that is a failure
    local slow
    slow=$(jq -r --argjson most $core_recovery_s '
        (select(.core_recovery_s > $most) | "T1 to T4 took longer than \($most) s"),
        (.failures | to_entries[] | "\(.value) requests: \(.key)")' "$1")
    [[ -n $slow ]] || return 0
    [[ -z $strict ]] || die "too slow: $slow"
    say "slower than it should be, which decides nothing without --strict: $slow"
}

stage_settled() {
    # The autoscaler's bounds are the playbooks', so it is they that move them; the number of servers is not theirs.
    local three=(-e '{"server_replicas": {"minimum": 3, "maximum": 4, "cpu": "800m"}}')
    play scaled playbooks/09-fastapi.yml "${three[@]}"
    k -n serving wait --for=jsonpath='{.status.readyReplicas}'=3 --timeout=120s deployment/driftloop-server >/dev/null
    ansible settled "${three[@]}"
    unchanged settled
    [[ $(k -n serving get deployment driftloop-server -o 'jsonpath={.spec.replicas}') == 3 ]] || die "a playbook set the replicas"
    ansible rehearsal --check --diff "${three[@]}"
    unchanged rehearsal
    play scaled-back playbooks/09-fastapi.yml
}

stage_suite() { suite suite; }

# The suite, or some of its files; the log is $results/NAME.log. suite NAME [FILE...]
suite() {
    OBSERVABILITY_DIR=$state/observability OBJECT_STORE=${OBJECT_STORE:-$object_store} on_node tests/run-all.sh "${@:2}" >"$results/$1.log" 2>&1 || {
        grep -A 12 '^FAIL' "$results/$1.log" >&2 || tail -n 20 "$results/$1.log" >&2
        die "the suite fails: $(tail -n 1 "$results/$1.log"); all of it: $results/$1.log"
    }
    tail -n 1 "$results/$1.log"
}

stage_flows() {
    local pause
    pause=$(DRIFTLOOP_IMAGE_FOLDERS=$here/addons files/images/build.sh refs | jq -r .pause)
    nsenter --target "$(<"$state/init.pid")" --mount --pid --net -- "$here/flows.py" "$state/kubectl" "$pause" >"$results/flows.log" || {
        grep WRONG "$results/flows.log" >&2
        die "connections are let through that must not be, or not those that must: $results/flows.log"
    }
    tail -n 1 "$results/flows.log"
}

stage_panels() {
    local sender
    # Rates of the last minutes need requests in them, whatever ran before.
    addresses
    behind "$state/traffic.pid" .venv/bin/python "$here/traffic.py" "$DRIFTLOOP_SERVER_URL" "$results/panels-traffic.json" --rate 20 >"$results/panels-traffic.log" 2>&1
    sender=$!
    sleep 75
    kill "$(<"$state/traffic.pid")"
    wait "$sender" || die "the traffic has no report: $(tail -n 3 "$results/panels-traffic.log")"
    "$here/panels.py" "$state/kubectl" >"$results/panels.log" || {
        grep 'NO DATA\|cannot be asked' "$results/panels.log" >&2
        die "panels stay empty: $results/panels.log"
    }
    tail -n 1 "$results/panels.log"
}

stage_broken() {
    [[ -s $results/suite.log ]] || die "run the stage suite first: its facts are those that must be seen failing"
    DRIFTLOOP_LAB_STATE=$state OBSERVABILITY_DIR=$state/observability on_node "$here/broken.sh" "$results/suite.log" "$results" ||
        die "not every fact was seen failing by the cause it stands for"
    ansible mended
    unchanged mended
}

stage_repair() {
    local broken=(
        "storage NetworkPolicy $object_store"
        'storage CronJob postgres-backup'
        'mlflow Deployment mlflow'
        'monitoring PrometheusRule platform'
        'serving PodDisruptionBudget driftloop-server'
        'serving ConfigMap drift-report'
        'serving Role baseline-mirror'
        'serving Service driftloop-retrainer'
    ) object namespace kind name
    for object in "${broken[@]}"; do
        read -r namespace kind name <<<"$object"
        case $kind in
        Deployment) k -n "$namespace" scale deployment "$name" --replicas=0 >/dev/null ;;
        Service) k -n "$namespace" patch service "$name" --type merge -p '{"spec": {"selector": {"app.kubernetes.io/name": "nobody"}}}' >/dev/null ;;
        *) k -n "$namespace" delete "$kind" "$name" >/dev/null ;;
        esac
    done
    ANSIBLE_STDOUT_CALLBACK=ansible.posix.json ANSIBLE_CALLBACKS_ENABLED=ansible.posix.json ansible repair
    "$here/changed-objects.py" "$results/repair.log" >"$results/repaired"
    diff <(printf '%s\n' "${broken[@]}" | sort) <(sort "$results/repaired") >&2 ||
        die "the playbooks repaired other objects than those that were broken"
    say "repaired: ${#broken[@]} of ${#broken[@]}, and nothing else"
    ansible repaired
    unchanged repaired
}

# What a restored platform must show, as one text: the champion and its bundle's digests, the runs of the archive, the events,
# studies and reports. The newest events are the restart's own.
shown() { # EVENTS: how many of the first events are compared
    echo "production $(production)"
    sql mlflow "SELECT version, alias FROM registered_model_aliases ORDER BY 2" | sed 's/^/alias /'
    sql mlflow "SELECT version, storage_location FROM model_versions ORDER BY 1" | sed 's/^/version /'
    on_node curl --silent --fail --max-time 20 "$DRIFTLOOP_SERVER_URL/model" | jq -r '"served \(.model_version) \(.digest)"'
    driftloop archive list --json | jq -cS '.' | sha256sum | sed 's/^/archive /'
    driftloop events --json | jq -cS "select(.seq <= $1)" | sha256sum | sed 's/^/events /'
    objects "$object_store" 9000 | sed 's/^/objects /'
}

# A statement for PostgreSQL, as its administrator; one row a line: DATABASE STATEMENT
sql() {
    # shellcheck disable=SC2016  # for the shell in the pod
    k -n storage exec statefulset/postgres -- bash -c \
        'PGPASSWORD=$(</secrets/admin/password) psql -XAtq -v ON_ERROR_STOP=1 -h 127.0.0.1 -U postgres -d "$0" -c "$1"' "$1" "$2"
}

# Every object of the buckets that is backed up, with its digest: STORE PORT
objects() {
    with_store "$1" "$2" '
import hashlib
for bucket in sorted(each["Name"] for each in s3.list_buckets()["Buckets"]):
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", []):
            if not each["Key"].startswith("backups/"):
                content = s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
                print(bucket, each["Key"], hashlib.sha256(content).hexdigest())'
}

# A program of Python, with `s3` for a store behind a tunnel, as its administrator: STORE PORT PROGRAM
with_store() {
    local keys
    keys=$(k -n storage get secret "$1-root" -o json | jq -r '.data | map_values(@base64d) | "AWS_ACCESS_KEY_ID=\(.["access-key"]) AWS_SECRET_ACCESS_KEY=\(.["secret-key"])"')
    # shellcheck disable=SC2086
    on_node env $keys AWS_REQUEST_CHECKSUM_CALCULATION=when_required AWS_RESPONSE_CHECKSUM_VALIDATION=when_required \
        .venv/bin/python -c "import boto3
s3 = boto3.client('s3', endpoint_url='http://127.0.0.1:$2', region_name='us-east-1')
$3"
}

stage_restore() {
    local kept=$results/backup before folder name events
    platform_variables
    forward start || die "the tunnels do not open: $(<"$results/port-forward.log")"
    (($(sql mlflow 'SELECT count(*) FROM model_versions') >= 2)) || die "run the stage loop first: two versions must have been promoted"
    # What comes later may be the backup's own: whoever rested starts anew.
    events=$(driftloop events --json | jq -s '[.[] | select(.kind != "verdict")] | last.seq')
    play backup playbooks/backup.yml
    folder=$(folder_of_backups)
    name=$(find "$folder" -mindepth 2 -maxdepth 2 -name manifest.json -printf '%T@ %h\n' | sort | tail -n 1 | sed 's|.*/||')
    [[ -n $name ]] || die "there is no backup in $folder"
    soon 300 recovered_or_idle || die "the loop does not go on after the backup"
    forward stop
    forward start || die "the tunnels do not open again: $(<"$results/port-forward.log")"
    before=$(shown "$events")
    rm -rf "$kept"
    mkdir -p "$kept"
    cp -a "$folder/$name" "$kept/"
    # The key is what a person keeps elsewhere.
    cp "$state/secrets/backup-key" "$kept/key"
    forward stop
    "$here/lab.sh" down
    stage_up
    stage_images
    play reinstall "${playbooks[@]}"
    folder=$(folder_of_backups)
    refuses_bad_backups "$folder" "$kept" "$name"
    cp -a "$kept/$name" "$folder/"
    chmod -R a+rX "$folder/$name"
    play restore playbooks/restore.yml -e "backup=$name" -e "backup_key=$kept/key"
    platform_variables
    forward start || die "the tunnels do not open: $(<"$results/port-forward.log")"
    soon 120 serves_production || die "the server does not serve what was restored"
    diff <(printf '%s\n' "$before") <(shown "$events") >&2 || die "what was restored differs from what was backed up"
    say "restored: $(grep -c '^objects' <<<"$before") objects, $(grep '^production' <<<"$before")"
    ansible restored
    unchanged restored
    # What runs by the clock does not fail for want of requests, which no backup has.
    for name in serving/drift-report serving/baseline-mirror storage/postgres-backup; do
        k -n "${name%/*}" create job after-restore --from="cronjob/${name#*/}" >/dev/null
        k -n "${name%/*}" wait --for=condition=Complete --timeout=240s job/after-restore >/dev/null || die "$name fails after a restore"
        k -n "${name%/*}" delete job after-restore >/dev/null
    done
    unseen_again 3
    forward stop
    stage_loop
}

# Back to the champion that has never seen the changed fleet, and one more run, or the cause would count as settled. Through
# tunnels that are open: ENGINE, another one each time
unseen_again() {
    driftloop promote 1 >/dev/null
    add_run "$1"
}

# One completed run more: ENGINE
add_run() {
    local file=$state/engine-$1.txt data=${CMAPSS_DIR:-$state/simulated}
    [[ -d $data ]] || driftloop data simulate --out "$data" --engines 8 --seed 1 >/dev/null
    awk -v engine="$1" '$1 == engine' "$data/train_FD003.txt" >"$file"
    driftloop archive add "$file" >/dev/null
}

# The folder of the volume with backups, as it is seen from here: the node may have a disk of its own.
folder_of_backups() {
    local folder
    folder=$(k get persistentvolumes -o json | jq -r '.items[] | select(.spec.claimRef.name == "backups").spec | .hostPath.path // .local.path')
    printf '/proc/%s/root%s' "$(<"$state/init.pid")" "$folder"
}

# Backups that are damaged, of a newer version, or for another key are refused, and nothing is touched: FOLDER KEPT NAME
refuses_bad_backups() {
    local champion how
    champion=$(production)
    for how in damaged newer; do
        rm -rf "${1:?}/refused"
        cp -a "$2/$3" "$1/refused"
        if [[ $how == damaged ]]; then
            printf x | dd of="$1/refused/database-mlflow.age" bs=1 seek=300 conv=notrunc status=none
        else
            .venv/bin/python - "$1/refused/manifest.json" <<'PYTHON'
import hashlib, json, sys
body = json.load(open(sys.argv[1]))
del body["digest"]
body["version"] = "99.0.0"
json.dump({**body, "digest": hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()}, open(sys.argv[1], "w"))
PYTHON
        fi
        chmod -R a+rX "$1/refused"
        if (play "refused-$how" playbooks/restore.yml -e backup=refused -e "backup_key=$2/key") 2>/dev/null; then
            die "a backup that is $how was restored"
        fi
        grep -q "refused: " "$results/refused-$how.log" || die "a backup that is $how is refused without a reason: $results/refused-$how.log"
        say "a backup that is $how: $(grep -o 'refused: [^"]*' "$results/refused-$how.log" | head -n 1)"
    done
    rm -rf "${1:?}/refused"
    [[ $(production) == "$champion" ]] || die "a backup that was refused changed the champion"
}

production() { k get --raw '/api/v1/namespaces/mlflow/services/mlflow:5000/proxy/api/2.0/mlflow/registered-models/alias?name=rul-lstm&alias=production' | jq -r .model_version.version; }

recovered_or_idle() { k get --raw /api/v1/namespaces/serving/services/driftloop-retrainer:8600/proxy/readyz >/dev/null; }

serves_production() { [[ $(k get --raw /api/v1/namespaces/serving/services/driftloop-server:8500/proxy/model | jq -r .model_version) == "$(production)" ]]; }

stage_faults() {
    local before after experiment selector
    platform_variables
    forward start || die "the tunnels do not open: $(<"$results/port-forward.log")"
    unseen_again 1
    before=$(driftloop events --json | jq -s 'length')
    driftloop experiment --results "$results/faults" --timeout-s 420 --no-reference >"$results/faults.log" 2>&1 &
    experiment=$!
    # The retrainer while its pipeline runs in a Job: the next retrainer takes the Job over.
    soon 180 told "$before" retraining_started || die "no retraining started: $(tail -n 5 "$results/faults.log")"
    clients_get_errors 30
    for selector in driftloop-retrainer mlflow "$object_store" postgres driftloop-server driftloop-watch prometheus alertmanager pushgateway; do
        k delete pods -A -l "app.kubernetes.io/name=$selector" --wait=false >/dev/null
        sleep 8
    done
    "$here/lab.sh" restart containerd 3>&- 4>&-
    wait $experiment || true
    soon 240 all_ready || die "not every pod is ready again: $(k get pods -A | grep -vE 'Running|Completed')"
    # The tunnels found their pods again by themselves.
    soon 60 forward status || die "a tunnel does not open again: $(<"$results/port-forward.log")"
    soon 300 recovered || die "the loop did not settle: $(on_node curl --silent --max-time 5 "$DRIFTLOOP_RETRAINER_URL/status")"
    after=$(driftloop events --json | jq -s 'length')
    ((after > before)) || die "events were lost: $before before, $after after"
    told "$before" retraining_adopted || die "the retrainer that was started anew did not take over the Job of the one before"
    driftloop events --json | jq -es '[.[].seq] as $n | $n == [range($n[0]; $n[0] + ($n | length))]' >/dev/null || die "events are missing from the log"
    k -n serving wait --for=condition=Complete --timeout=240s job/report-in-errors >/dev/null ||
        die "a report that was begun while MLflow and the Pushgateway gave errors was never made"
    k -n serving delete job report-in-errors >/dev/null
    forward stop
    ansible after-faults
    unchanged after-faults
}

# For so long MLflow gets no connection from PostgreSQL, and who asks the Pushgateway finds nobody: SECONDS
clients_get_errors() {
    k -n monitoring create quota nothing-starts --hard=pods=0 >/dev/null
    k -n monitoring delete pods -l app.kubernetes.io/name=pushgateway --wait=false >/dev/null
    sql postgres "ALTER DATABASE mlflow CONNECTION LIMIT 0" >/dev/null
    sql postgres "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'mlflow'" >/dev/null
    soon 10 refused || die "MLflow answers although PostgreSQL lets nobody in"
    k -n serving create job report-in-errors --from=cronjob/drift-report >/dev/null
    sleep "$1"
    sql postgres "ALTER DATABASE mlflow CONNECTION LIMIT -1" >/dev/null
    k -n monitoring delete quota nothing-starts >/dev/null
}

# MLflow has no answer from its database.
refused() {
    ! on_node curl --silent --fail --max-time 5 -H 'Content-Type: application/json' -d '{"max_results": 1}' \
        "$DRIFTLOOP_MLFLOW_URL/api/2.0/mlflow/experiments/search"
}

soon() { within "$@" >/dev/null; } # SECONDS COMMAND...

# The loop has told of this since it had told of so many: COUNT KIND
told() { driftloop events --json | jq -es --argjson count "$1" --arg kind "$2" '.[$count:] | any(.kind == $kind)'; }

all_ready() {
    [[ -z $(k get pods -A -o json | jq -r '.items[] | select(.status.phase != "Succeeded" and .status.phase != "Failed")
        | select(any(.status.conditions[]?; .type == "Ready" and .status == "True") | not).metadata.name') ]]
}

# The champion of before was replaced, the server serves what is in production, and the loop is idle again.
recovered() {
    local served production
    served=$(on_node curl --silent --max-time 5 "$DRIFTLOOP_SERVER_URL/model" | jq -r .model_version)
    production=$(on_node curl --silent --max-time 5 "$DRIFTLOOP_MLFLOW_URL/api/2.0/mlflow/registered-models/alias?name=rul-lstm&alias=production" | jq -r .model_version.version)
    [[ $served == "$production" && $served != 1 ]] && on_node curl --silent --max-time 5 "$DRIFTLOOP_RETRAINER_URL/status" | jq -e '.state == "idle"'
}

stage_down() { "$here/lab.sh" down; }

# --- the run ------------------------------------------------------------------------------------------------------

evidence() {
    [[ -x $state/kubectl ]] || return 0
    forward stop || true
    {
        k get pods -A -o wide
        k get events -A --sort-by=.lastTimestamp | tail -n 40
        k get pods -A -o json | jq -r '.items[] | select(.status.phase != "Succeeded")
            | select(any(.status.conditions[]?; .type == "Ready" and .status == "True") | not) | "\(.metadata.namespace) \(.metadata.name)"' |
            while read -r namespace pod; do
                printf '\n--- %s/%s\n' "$namespace" "$pod"
                k -n "$namespace" logs "$pod" --all-containers --tail=20
            done
    } >"$results/evidence.log" 2>&1
    tail -n 80 "$results/evidence.log" >&2
    say "what the cluster looked like, all of it: $results/evidence.log" >&2
}

finish() { # KEEP
    local code=$? file
    trap - EXIT INT TERM
    # Where a stage was ended by a signal, its log would take what is said from here on.
    exec >&3 2>&4
    for file in "${started[@]}"; do kill "$(<"$file")" 2>/dev/null || true; done
    if ((code)); then
        evidence
        [[ -n $1 ]] || "$here/lab.sh" down || true
        say "${#passed[@]} stages passed, 1 failed: $stage; results: $results"
    fi
    exit "$code"
}

main() {
    local keep='' named='' wanted=() without_stages=("${core[@]}") began total=$SECONDS
    while (($#)); do
        case $1 in
        --full) without_stages=("${full[@]}") ;;
        --additions) without_stages=("${additions[@]}") ;;
        --upgrade) without_stages=("${upgrade[@]}") ;;
        --trouble)
            without_stages=("${trouble[@]}")
            export DRIFTLOOP_LAB_DISK=${DRIFTLOOP_LAB_DISK:-8G}
            ;;
        --strict) strict=yes ;;
        --keep) keep=yes ;;
        --help | -h) sed -n '2,43s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *)
            [[ " ${full[*]} ${additions[*]} upgrade trouble " == *" $1 "* ]] || die "no stage is called '$1'; there are: ${full[*]} ${additions[*]:4:6} upgrade trouble"
            wanted+=("$1")
            ;;
        esac
        shift
    done
    if ((${#wanted[@]} == 0)); then
        wanted=("${without_stages[@]}")
    else
        keep=yes named=yes
        [[ ${wanted[0]} == up || ${wanted[0]} == upgrade ]] || enter
    fi
    exec 3>&1 4>&2
    # shellcheck disable=SC2064  # as it is now
    trap "finish '$keep'" EXIT
    trap 'exit 130' INT TERM
    for stage in "${wanted[@]}"; do
        [[ $stage != down || -n $named || -z $keep ]] || continue
        began=$SECONDS
        "stage_$stage"
        printf 'test-lab: %-8s %4d s\n' "$stage" $((SECONDS - began)) | tee -a "$results/times"
        passed+=("$stage")
    done
    say "${#passed[@]} stages passed, 0 failed in $((SECONDS - total)) s; results: $results"
}

main "$@"
