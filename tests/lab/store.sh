# shellcheck shell=bash
# shellcheck disable=SC2154  # what test.sh has set
# The object store changed under a platform that has closed its loop, as docs/object-store.md says it. Sourced by test.sh.

readonly writers=(statefulset/driftloop-retrainer deployment/driftloop-units deployment/driftloop-console)
readonly scheduled=(serving/drift-report serving/baseline-mirror storage/postgres-backup)

stage_seaweedfs() {
    files/images/build.sh import seaweedfs
    change_store minio seaweedfs
    OBJECT_STORE=seaweedfs suite suite-on-seaweedfs
    say "memory: $(k -n storage top pod seaweedfs-0 --no-headers | awk '{print $1, $3}')"
    # The loop closes on this store too.
    platform_variables
    forward start || die "the tunnels do not open: $(<"$results/port-forward.log")"
    unseen_again 2
    forward stop
    stage_loop
    change_store seaweedfs minio
    suite suite-on-minio-again 01-infra/storage.sh 02-connectivity 03-functional
    k -n storage delete statefulset,service,configmap,networkpolicy,job -l app.kubernetes.io/name=seaweedfs >/dev/null
    k -n storage delete pvc data-seaweedfs-0 >/dev/null
}

# The platform on TO instead of FROM, with every object: FROM TO
change_store() {
    local each before
    play "beside-$2" playbooks/04-minio.yml -e "object_store=$2"
    suspend true
    for each in "${writers[@]}"; do k -n serving scale "$each" --replicas=0 >/dev/null; done
    k -n mlflow scale deployment/mlflow --replicas=0 >/dev/null
    soon 120 rest || die "who writes does not rest: $(k get pods -A | grep -E 'retrainer|units|console|mlflow')"
    tunnel_to "$1" 9100
    tunnel_to "$2" 9200
    before=$(objects "$1" 9100)
    (
        MOVE_FROM_ACCESS_KEY=$(key_of "$1" access-key) MOVE_FROM_SECRET_KEY=$(key_of "$1" secret-key)
        MOVE_TO_ACCESS_KEY=$(key_of "$2" access-key) MOVE_TO_SECRET_KEY=$(key_of "$2" secret-key)
        export MOVE_FROM_ACCESS_KEY MOVE_FROM_SECRET_KEY MOVE_TO_ACCESS_KEY MOVE_TO_SECRET_KEY
        on_node .venv/bin/python scripts/move_buckets.py http://127.0.0.1:9100 http://127.0.0.1:9200 \
            --journal "$results/moved-to-$2.jsonl" >"$results/moved-to-$2.log" 2>&1
    ) || die "not every object arrived: $(tail -n 5 "$results/moved-to-$2.log")"
    tail -n 1 "$results/moved-to-$2.log"
    diff <(printf '%s\n' "$before") <(objects "$2" 9200) >&2 || die "what $2 has is not what $1 had"
    kill "$(<"$state/tunnel-$1.pid")" "$(<"$state/tunnel-$2.pid")"
    ansible "on-$2" -e "object_store=$2"
    suspend false
    ansible "on-$2-again" -e "object_store=$2"
    unchanged "on-$2-again"
    soon 120 serves_production || die "the server does not serve what is in production"
}

# What starts by the clock would fail while the writers rest: true | false
suspend() {
    local each
    for each in "${scheduled[@]}"; do
        k -n "${each%/*}" patch cronjob "${each#*/}" -p "{\"spec\": {\"suspend\": $1}}" >/dev/null
    done
}

# A port-forward to the store, until it is killed: STORE PORT
tunnel_to() {
    behind "$state/tunnel-$1.pid" "$state/kubectl" -n storage port-forward "service/$1" "$2:9000" >"$results/tunnel-$1.log" 2>&1
    soon 30 grep -q Forwarding "$results/tunnel-$1.log" || die "no tunnel to $1: $(<"$results/tunnel-$1.log")"
}

key_of() { k -n storage get secret "$1-root" -o "jsonpath={.data.$2}" | base64 -d; } # STORE KEY

# Nobody who writes has a pod.
rest() {
    [[ -z $(k get pods -A -o json | jq -r '.items[].metadata.labels["app.kubernetes.io/name"]
        | select(IN("driftloop-retrainer", "driftloop-units", "driftloop-console", "mlflow"))') ]]
}
