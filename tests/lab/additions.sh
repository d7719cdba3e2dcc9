# shellcheck shell=bash
# shellcheck disable=SC2154  # what test.sh has set
# Stages of the additions: each switches one on, shows what it does, and takes it off without a trace. Sourced by test.sh.

# Nothing is left of an addition: its namespace, what it put into others, its images. NAME IMAGE...
gone() {
    local name=$1 kind found
    shift
    ! k get namespace "$name" >/dev/null 2>&1 || die "the namespace $name is still there"
    for kind in $(k api-resources --verbs=list -o name | grep -vE '^(events|componentstatuses|pods|nodes)(\.|$)'); do
        found=$(k get "$kind" -A -l "driftloop/addition=$name" -o name 2>/dev/null) || continue
        [[ -z $found ]] || die "of the addition $name is left: $found"
    done
    # shellcheck disable=SC2086
    for name in "$@"; do
        [[ -z $($DRIFTLOOP_CTR images list -q "name~=driftloop/$name:") ]] || die "the image $name is still on the node"
    done
    k get persistentvolumes -o json | jq -e --arg name "${1:-}" '[.items[] | select(.status.phase == "Released")] == []' >/dev/null ||
        die "volumes are left over"
}

# --- doors ----------------------------------------------------------------------------------------------------------

readonly door_playbooks=(playbooks/00-bootstrap-scripts.yml playbooks/07-mlflow.yml playbooks/16-console.yml playbooks/22-doors.yml)
readonly provider_address=10.99.99.2 provider_port=5556

# Grafana's image cannot be had here: a page with its name behind its Service.
stand_in_for_grafana() {
    ! k -n monitoring get deployment grafana >/dev/null 2>&1 || return 0
    k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Service
metadata: {name: grafana, namespace: monitoring, labels: {stands-in: "yes"}}
spec: {selector: {app.kubernetes.io/name: grafana}, ports: [{port: 3000}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: stands-in, namespace: monitoring, labels: {stands-in: "yes"}}
data: {index.html: "<title>stands in for Grafana</title>"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: grafana, namespace: monitoring, labels: {stands-in: "yes"}}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: grafana}}
  template:
    metadata: {labels: {app.kubernetes.io/name: grafana}}
    spec:
      containers:
        - name: grafana
          image: $(files/images/build.sh refs | jq -r .server)
          imagePullPolicy: Never
          command: [python3, -m, http.server, "3000", --directory, /page]
          volumeMounts: [{name: page, mountPath: /page}]
      volumes: [{name: page, configMap: {name: stands-in}}]
YAML
    k -n monitoring rollout status deployment/grafana --timeout=120s >/dev/null
}

stage_people() {
    local secret settings=$results/doors.json
    files/images/build.sh import oauth2-proxy
    stand_in_for_grafana

    say "with a file of passwords, on 127.0.0.1"
    play doors "${door_playbooks[@]}" -e doors_enabled=true
    play doors-again "${door_playbooks[@]}" -e doors_enabled=true
    unchanged doors-again
    forward start || die "the tunnels do not open: $(<"$results/port-forward.log")"
    secret=$(k -n doors get secret doors -o json | jq -r '.data.proxy' | base64 -d)
    password_of_admin | on_node .venv/bin/python "$here/people.py" password http://127.0.0.1 | tee "$results/people.log"
    forward stop
    nobody_else_says_who_is_asking "$secret"

    say "with a provider, on ports of the node, with a certificate"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj "/CN=$provider_address" \
        -addext "subjectAltName=IP:$provider_address" -keyout "$state/doors.key" -out "$state/doors.crt" 2>/dev/null
    secret=$(head -c 24 /dev/urandom | base64 -w0)
    # The client's secret is in a file, as people have it in a vault.
    (umask 077 && jq -n --arg secret "$secret" --arg issuer "http://$provider_address:$provider_port" --arg state "$state" \
        --arg address "https://$provider_address" '{
        doors_enabled: true, doors_address: $address, doors_certificate: {chain: "\($state)/doors.crt", key: "\($state)/doors.key"},
        doors_provider: {issuer: $issuer, client_id: "driftloop", client_secret: $secret, scope: "openid email profile groups", groups_claim: "groups"},
        doors_roles: {view: ["planners"], predict: [], operate: ["reliability"], admin: ["platform"]}}' >"$settings")
    behind "$state/provider.pid" .venv/bin/python "$here/oidc.py" "$provider_address" "$provider_port" <<<"$secret"
    play doors-provider "${door_playbooks[@]}" -e "@$settings"
    play doors-provider-again "${door_playbooks[@]}" -e "@$settings"
    unchanged doors-provider-again
    on_node .venv/bin/python "$here/people.py" provider "https://$provider_address" | tee -a "$results/people.log"
    kill "$(<"$state/provider.pid")"
    say "memory: $(k -n doors top pods --no-headers | awk '{printf "%s %s", $1, $3}')"
    rm "$settings"

    say "and off again"
    k -n monitoring delete deployment,service,configmap -l stands-in=yes >/dev/null
    play doors-off "${door_playbooks[@]}"
    gone doors oauth2-proxy
    play doors-off-again "${door_playbooks[@]}"
    unchanged doors-off-again
    say "$(grep -c '^in ' "$results/people.log") times let in, $(grep -c '^out ' "$results/people.log") times not"
}

password_of_admin() {
    local file
    for file in "$DRIFTLOOP_CONFIG_DIR"/secrets-*.yml; do
        .venv-ansible/bin/ansible-vault view --vault-password-file scripts/vault-password.sh "$file" | sed -n 's/^secret_doors_admin: //p'
    done
}

# The console believes no header of anybody else, on the node or in a pod, nor of the doors' pods without the password.
nobody_else_says_who_is_asking() { # PASSWORD OF THE PROXY
    local console status
    console=$(k -n serving get pods -l app.kubernetes.io/name=driftloop-console -o 'jsonpath={.items[0].status.podIP}')
    status=$(on_node curl --silent --output /dev/null --write-out '%{http_code}' --max-time 10 -H 'X-Forwarded-User: admin' \
        -H 'X-Forwarded-Groups: platform' "http://$console:8400/api/v1/me")
    [[ $status == 401 ]] || die "the node itself is believed to be admin: $status"
    status=$(on_node curl --silent --output /dev/null --write-out '%{http_code}' --max-time 10 -H 'X-Forwarded-User: admin' \
        --user "admin:$(rev <<<"$1")" "http://$console:8400/api/v1/me")
    [[ $status == 401 ]] || die "the node with a wrong password is believed to be admin: $status"
    if k -n serving exec deployment/driftloop-server -- python3 -c "import socket; socket.create_connection(('$console', 8400), 5)" 2>/dev/null; then
        die "a pod that is no door reaches the console"
    fi
    say "nobody but the doors says who is asking"
}

# --- logs -----------------------------------------------------------------------------------------------------------

readonly log_playbooks=(playbooks/00-bootstrap-scripts.yml playbooks/21-logs.yml)

stage_logs() {
    local share
    files/images/build.sh import victoria-logs
    play logs "${log_playbooks[@]}" -e logs_enabled=true
    play logs-again "${log_playbooks[@]}" -e logs_enabled=true
    unchanged logs-again
    OBSERVABILITY_DIR=$state/observability on_node tests/run-all.sh 03-functional/logs.sh >"$results/logs.log" 2>&1 || {
        grep -A 12 '^FAIL' "$results/logs.log" >&2
        die "a fact about the logs is none: $results/logs.log"
    }
    tail -n 1 "$results/logs.log"

    # Requests that nobody may send, by the hundred: they are counted, and people are told.
    refuse_many
    soon 90 share_of_refused || die "the refused requests are not found"
    soon 240 alerted || die "nobody is told of the refused requests"
    say "refused requests are found by their search, and people are told of them"

    # What is stored outlives the store's pod.
    share=$(lines_stored)
    k -n logs delete pod victoria-logs-0 >/dev/null
    k -n logs rollout status statefulset/victoria-logs --timeout=120s >/dev/null
    (($(lines_stored) >= share)) || die "lines are gone with the store's pod: $share before, $(lines_stored) after"
    sleep 60 # that it is idle
    say "$(lines_stored) lines; memory: $(k -n logs top pods --no-headers | awk '{printf "%s %s, ", $1, $3}')"

    play logs-off "${log_playbooks[@]}"
    gone logs victoria-logs
    play logs-off-again "${log_playbooks[@]}"
    unchanged logs-off-again
}

refuse_many() {
    platform_variables
    forward start || die "the tunnels do not open: $(<"$results/port-forward.log")"
    # shellcheck disable=SC2016
    on_node bash -c 'for _ in {1..150}; do curl --silent --output /dev/null --max-time 10 -X POST "$0/promote"; done' "$DRIFTLOOP_RETRAINER_URL"
    forward stop
}

share_of_refused() {
    "$state/observability/logs.sh" --since 10m --json refused | jq -es '[.[] | select(.component == "retrainer") | .refused | tonumber] | add >= 150' >/dev/null
}

alerted() {
    k get --raw /api/v1/namespaces/monitoring/services/alertmanager:9093/proxy/api/v2/alerts |
        jq -e '[.[] | select(.labels.alertname == "ManyRequestsRefused" and .labels.component == "retrainer")] | length == 1' >/dev/null
}

lines_stored() { "$state/observability/logs.sh" --since 30d --json '* | stats count() lines' | jq -r .lines; }

# --- Git ------------------------------------------------------------------------------------------------------------

readonly git_address=10.99.99.2 git_port=5580

stage_gitops() {
    local writer reader settings=$results/gitops.json staging targets old new
    files/images/build.sh import flux
    writer=$(openssl rand -hex 12) reader=$(openssl rand -hex 12)
    printf 'playbooks %s write\nflux %s read\n' "$writer" "$reader" >"$state/people"
    mkdir -p "$state/git"
    behind "$state/git.pid" .venv/bin/python "$here/git_server.py" "$git_address" "$git_port" "$state/git" <"$state/people" >"$results/git.log" 2>&1
    # Whoever runs the playbooks pushes with their own credentials, which a helper of Git knows.
    (umask 077 && printf 'http://playbooks:%s@%s:%s\n' "$writer" "$git_address" "$git_port" >"$state/credentials")
    export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=credential.helper GIT_CONFIG_VALUE_0="store --file=$state/credentials"
    (umask 077 && jq -n --arg remote "http://$git_address:$git_port/platform.git" --arg password "$reader" \
        '{gitops_enabled: true, gitops_remote: $remote, gitops_interval: "30s", gitops_reader: {username: "flux", password: $password}}' >"$settings")

    say "Git says what runs"
    ansible gitops -e "@$settings"
    ansible gitops-again -e "@$settings"
    unchanged gitops-again
    gitops_facts gitops-facts

    say "a change goes through Git, and pods follow"
    play gitops-change playbooks/09-fastapi.yml -e "@$settings" -e '{"server_replicas": {"minimum": 3, "maximum": 4, "cpu": "800m"}}'
    k -n serving wait --for=jsonpath='{.status.readyReplicas}'=3 --timeout=120s deployment/driftloop-server >/dev/null
    play gitops-back playbooks/09-fastapi.yml -e "@$settings"

    say "the serving layer twice: an image is tried in staging, and promoted"
    staging=(-e gitops_environment=staging -e '{"namespaces": {"storage": "storage", "mlflow": "mlflow", "kubeflow": "kubeflow", "monitoring": "staging", "serving": "staging", "gitops": "gitops", "logs": "logs", "doors": "doors"}}')
    targets=(-e '{"gitops_targets": {"production": ["storage", "mlflow", "monitoring", "serving"], "staging": ["staging"]}}')
    old=$(files/images/build.sh refs | jq -r .server)
    play gitops-staging playbooks/09-fastapi.yml -e "@$settings" "${staging[@]}" "${targets[@]}"
    play gitops-targets playbooks/20-gitops.yml -e "@$settings" "${targets[@]}"
    new=$(next_server "$old")
    try_in_staging "$old" "$new"
    soon 180 runs staging "$new" || die "staging does not run the new image"
    runs serving "$old" || die "production runs what nobody has promoted"
    play gitops-promoted playbooks/promote.yml -e "@$settings" "${targets[@]}" -e promote_from=staging
    soon 180 runs serving "$new" || die "production does not run what was promoted"
    say "promoted: $(git -C "$state/git/platform.git" log -1 --format=%s main)"
    sleep 60 # that it is idle
    say "memory: $(k -n gitops top pods --no-headers | awk '{printf "%s %s, ", $1, $3}')"

    say "and off again"
    ansible gitops-off
    kill "$(<"$state/git.pid")"
    gone gitops flux
    [[ -z $(k get deployments,statefulsets,services,configmaps,networkpolicies -A -o json --show-managed-fields | grep -E 'toolkit.fluxcd.io|kustomize-controller' || true) ]] ||
        die "marks of Flux are left"
    k delete namespace staging --wait --timeout=120s >/dev/null
    $DRIFTLOOP_CTR images remove "$new" >/dev/null
    ansible gitops-off-again
    unchanged gitops-off-again
}

# Without a Git server: the repository is a folder of whoever runs the playbooks, and Flux reads a copy of it in the platform's
# own object store. The store itself and the servers are enough to show it.
stage_bucket() {
    local settings=$results/bucket.json some=(playbooks/04-minio.yml playbooks/09-fastapi.yml playbooks/20-gitops.yml) versions owners
    files/images/build.sh import flux
    jq -n '{gitops_enabled: true, gitops_interval: "30s", gitops_bucket: {name: "platform", endpoint: "", region: "us-east-1"}}' >"$settings"

    say "the copy in the bucket says what runs"
    play bucket "${some[@]}" -e "@$settings"
    play bucket-again "${some[@]}" -e "@$settings"
    unchanged bucket-again
    owners=$(k -n serving get deployment driftloop-server -o json --show-managed-fields | jq -r '[.metadata.managedFields[] | select(.operation == "Apply") | .manager] | unique | join(" ")')
    [[ $owners == kustomize-controller ]] || die "it is not Flux alone that applies: $owners"

    say "a change goes through the bucket, and pods follow; what is deleted comes back"
    play bucket-change playbooks/09-fastapi.yml -e "@$settings" -e '{"server_replicas": {"minimum": 3, "maximum": 4, "cpu": "800m"}}'
    k -n serving wait --for=jsonpath='{.status.readyReplicas}'=3 --timeout=120s deployment/driftloop-server >/dev/null
    k -n serving delete poddisruptionbudget driftloop-server >/dev/null
    soon 120 k -n serving get poddisruptionbudget driftloop-server || die "what was deleted does not come back"
    play bucket-back playbooks/09-fastapi.yml -e "@$settings"
    platform_variables
    forward start || die "the tunnels do not open: $(<"$results/port-forward.log")"
    versions=$(with_store "$object_store" 9000 'print(len(s3.list_object_versions(Bucket="platform", Prefix="production/serving.yml")["Versions"]))')
    forward stop
    ((versions >= 3)) || die "the bucket keeps no versions: $versions"
    say "the bucket keeps $versions versions of production/serving.yml; memory: $(k -n gitops top pods --no-headers | awk '{printf "%s %s, ", $1, $3}')"

    say "and off again"
    play bucket-off "${some[@]}"
    gone gitops flux
    play bucket-off-again "${some[@]}"
    unchanged bucket-off-again
}

gitops_facts() { # NAME
    on_node tests/run-all.sh 03-functional/gitops.sh >"$results/$1.log" 2>&1 || {
        grep -A 12 '^FAIL' "$results/$1.log" >&2
        die "a fact about Git is none: $results/$1.log"
    }
    tail -n 1 "$results/$1.log"
}

# The next version of an image: it differs by a label, and so has another digest. REFERENCE
next_server() {
    local store=(buildah --root "$DRIFTLOOP_IMAGES_CACHE/layers" --runroot "$DRIFTLOOP_IMAGES_CACHE/run") container
    local next=localhost/driftloop/server:000000000000 archive=$state/next.tar
    container=$("${store[@]}" from --pull-never "$1")
    "${store[@]}" config --label driftloop.test=next "$container"
    "${store[@]}" commit --quiet "$container" "$next" >/dev/null
    "${store[@]}" push --quiet "$next" "oci-archive:$archive:$next"
    "${store[@]}" rm "$container" >/dev/null
    "${store[@]}" rmi "$next" >/dev/null
    $DRIFTLOOP_CTR images import "$archive" >/dev/null
    rm "$archive"
    printf '%s' "$next"
}

# A person commits another image to staging: OLD NEW
try_in_staging() {
    local copy=$state/hers digest
    digest=$($DRIFTLOOP_CTR images list "name==$2" | grep -o 'sha256:[0-9a-f]\{64\}')
    git clone --quiet "http://$git_address:$git_port/platform.git" "$copy"
    sed -i "s|$1|$2|" "$copy"/staging/*.yml
    jq --arg new "$2" --arg digest "$digest" '.server = {reference: $new, digest: $digest}' "$copy/staging/images.json" >"$state/images.json"
    cp "$state/images.json" "$copy/staging/images.json"
    git -C "$copy" -c user.name=anna -c user.email=anna@example.test commit --quiet --all --message "staging: the next server"
    git -C "$copy" push --quiet origin HEAD:main
}

# Every server of a namespace runs this image: NAMESPACE REFERENCE
runs() {
    k -n "$1" get deployment driftloop-server -o json | jq -e --arg image "$2" '.spec.template.spec.containers[0].image == $image
        and .status.updatedReplicas == .status.replicas and .status.readyReplicas == .status.replicas
        and .status.observedGeneration == .metadata.generation' >/dev/null
}
