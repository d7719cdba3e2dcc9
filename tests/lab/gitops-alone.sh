#!/usr/bin/env bash
# GitOps without a lab: the playbooks, Git and Flux against an API server that has no nodes. What is applied, put back, taken
# away and given back can be seen there; what pods would do cannot.
#
# Usage: gitops-alone.sh [FOLDER]      logs and state are kept in FOLDER, else in a new one
# Needs root (as the playbooks do), etcd, and the lab's Kubernetes (lab.sh up makes it; DRIFTLOOP_LAB_CACHE). FLUX, a folder
# with Flux's controllers, spares their build.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
cd "$repo"
state=$(realpath -m "${1:-$(mktemp -d /tmp/driftloop-gitops.XXXXXX)}")
cache=${DRIFTLOOP_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftloop-lab}
kube=$cache/kube
flux=${FLUX:-$cache/flux}
readonly program=gitops-alone
# shellcheck source=../../scripts/shell.sh
source "$repo/scripts/shell.sh"
[[ -x $kube ]] || die "there is no $kube: tests/lab/lab.sh up builds it"
mkdir -p "$state"/{pki,logs}
pids=()

finish() {
    local code=$?
    trap - EXIT
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    ((code == 0)) || say "failed; logs are in $state/logs" >&2
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
begin() { # NAME COMMAND...
    local name=$1
    shift
    "$@" >"$state/logs/$name.log" 2>&1 </dev/null &
    pids+=($!)
}
k() { "$kube" kubectl --kubeconfig "$state/kubeconfig" "$@"; }
soon() { within "$@" >/dev/null; }

# --- an API server --------------------------------------------------------------------------------------------------

kubeconfig() { # FILE USER...
    local file=$1
    shift
    k_server="https://127.0.0.1:$api"
    cat >"$file" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: x, cluster: {server: "$k_server", certificate-authority: "$state/pki/ca.crt"}}]
users: [{name: x, user: {$*}}]
contexts: [{name: x, context: {cluster: x, user: x, namespace: ${namespace:-default}}}]
current-context: x
YAML
    chmod 600 "$file"
}

start_kubernetes() {
    local etcd peers
    etcd=$(free_port) peers=$(free_port) api=$(free_port)
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ca \
        -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$state/pki/ca.key" -out "$state/pki/ca.crt" 2>/dev/null
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=kube-apiserver \
        -keyout "$state/pki/api.key" -out "$state/pki/api.csr" 2>/dev/null
    openssl x509 -req -in "$state/pki/api.csr" -CA "$state/pki/ca.crt" -CAkey "$state/pki/ca.key" -days 2 \
        -extfile <(printf 'extendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\nsubjectAltName=IP:127.0.0.1') \
        -out "$state/pki/api.crt" 2>/dev/null
    openssl ecparam -name prime256v1 -genkey -noout -out "$state/pki/accounts.key"
    (umask 077 && printf '%s,admin,admin,system:masters\n' "$(openssl rand -hex 16)" >"$state/pki/tokens")
    begin etcd etcd --data-dir "$state/etcd" --unsafe-no-fsync --logger zap --log-level warn \
        --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
        --listen-peer-urls "http://127.0.0.1:$peers" --initial-advertise-peer-urls "http://127.0.0.1:$peers" \
        --initial-cluster "default=http://127.0.0.1:$peers"
    begin kube-apiserver "$kube" kube-apiserver --etcd-servers "http://127.0.0.1:$etcd" --bind-address 127.0.0.1 --secure-port "$api" \
        --service-cluster-ip-range 10.43.0.0/16 --authorization-mode RBAC --token-auth-file "$state/pki/tokens" \
        --tls-cert-file "$state/pki/api.crt" --tls-private-key-file "$state/pki/api.key" \
        --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$state/pki/accounts.key" \
        --service-account-signing-key-file "$state/pki/accounts.key"
    kubeconfig "$state/kubeconfig" "token: $(cut -d, -f1 "$state/pki/tokens")"
    soon 60 k get --raw /readyz || die "the API server does not start: $(tail -n 5 "$state/logs/kube-apiserver.log")"
    # It deletes what belongs to what was deleted, and namespaces with all in them.
    begin kube-controller-manager "$kube" kube-controller-manager --kubeconfig "$state/kubeconfig" --bind-address 127.0.0.1 \
        --secure-port "$(free_port)" --leader-elect=false --use-service-account-credentials \
        --service-account-private-key-file "$state/pki/accounts.key" --root-ca-file "$state/pki/ca.crt"
}

# --- the playbooks, Git and Flux ------------------------------------------------------------------------------------

# Every image is on a node that has no containers: its digest is that of its name.
make_containerd() {
    files/images/build.sh refs | jq -r '.[]' >"$state/images"
    touch "$state/more-images"
    cat >"$state/ctr" <<SH
#!/usr/bin/env bash
refs() { cat "$state/images" "$state/more-images"; }
case "\$*" in
"images list -q") refs ;;
"images list name=="*) ref=\${3#name==}; ! refs | grep -qxF "\$ref" || printf '%s x sha256:%s 1 MiB\n' "\$ref" "\$(sha256sum <<<"\$ref" | cut -c1-64)" ;;
*) echo "\$*" >>"$state/logs/ctr.log" ;;
esac
SH
    chmod +x "$state/ctr"
}

play() { # NAME PLAYBOOK... [OPTION...]
    local name=$1
    shift
    # Nothing rolls out where there are no nodes.
    .venv-ansible/bin/ansible-playbook "$@" -e '{"waits_for": {}, "component_verify": []}' >"$state/logs/$name.log" 2>&1 || {
        grep -A 15 -E 'fatal:|FAILED' "$state/logs/$name.log" | tail -n 30 >&2
        die "the playbooks failed: $state/logs/$name.log"
    }
}
refused() { # WHY NAME PLAYBOOK...
    local why=$1
    shift
    ! (play "$@") 2>/dev/null || die "$1 was not refused"
    grep -qF "$why" "$state/logs/$1.log" || die "$1 was refused for another reason than '$why': $state/logs/$1.log"
}
changes() { awk '/^TASK \[/ {task = $0} /^changed: / {print task}' "$state/logs/$1.log"; }
unchanged() { local found; found=$(changes "$1"); [[ -z $found ]] || die "$1 changed what was so already: $found"; }

# A controller as its pod would be: with the account, and the rights, that the playbook gave it.
controller() { # NAME OPTION...
    local name=$1 port
    shift
    namespace=gitops kubeconfig "$state/$name.yaml" "token: $(k -n gitops create token "$name" --duration=2h)"
    port=$(free_port)
    RUNTIME_NAMESPACE=gitops KUBECONFIG=$state/$name.yaml TMPDIR=$state/tmp begin "$name" "$flux/$name" --watch-all-namespaces=false \
        --log-encoding=json --events-addr= --metrics-addr=127.0.0.1:0 --health-addr="127.0.0.1:$port" "$@"
}
# With what its Deployment says of it.
arguments_of() { k -n gitops get deployment "$1" -o json | jq -r '.spec.template.spec.containers[0].args[]' | grep -vE '^--(watch-all|log-|events-addr|storage)' || true; }
start_flux() {
    local files arguments
    files=$(free_port)
    mkdir -p "$state/artifacts" "$state/tmp"
    controller source-controller --storage-path="$state/artifacts" --storage-addr="127.0.0.1:$files" --storage-adv-addr="127.0.0.1:$files"
    mapfile -t arguments < <(arguments_of kustomize-controller)
    controller kustomize-controller "${arguments[@]}"
}
ready() { k -n gitops get kustomization "$1" -o json | jq -e '[.status.conditions[]? | select(.type == "Ready")][0].status == "True"' >/dev/null; }
managers() { k -n "$1" get "$2" "$3" -o json --show-managed-fields | jq -r '[.metadata.managedFields[] | select(.operation == "Apply") | .manager] | unique | join(" ")'; }

export KUBECONFIG=$state/kubeconfig DRIFTLOOP_KUBECTL="$kube kubectl" DRIFTLOOP_CTR=$state/ctr DRIFTLOOP_CONFIG_DIR=$state/secrets
export ANSIBLE_HOME=$state/ansible ANSIBLE_NOCOLOR=1

start_kubernetes
make_containerd
writer=$(openssl rand -hex 12) reader=$(openssl rand -hex 12) git_port=$(free_port)
printf 'playbooks %s write\nflux %s read\n' "$writer" "$reader" >"$state/people"
"$repo/.venv/bin/python" "$here/git_server.py" 127.0.0.1 "$git_port" "$state" <"$state/people" >"$state/logs/git.log" 2>&1 &
pids+=($!)
# The credentials of whoever runs the playbooks are their own business: a helper of Git knows them.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=credential.helper GIT_CONFIG_VALUE_0="store --file=$state/credentials"
(umask 077 && printf 'http://playbooks:%s@127.0.0.1:%s\n' "$writer" "$git_port" >"$state/credentials")
(umask 077 && jq -n --arg remote "http://127.0.0.1:$git_port/platform.git" --arg password "$reader" \
    '{gitops_enabled: true, gitops_remote: $remote, gitops_interval: "10s", gitops_reader: {username: "flux", password: $password}}' >"$state/on.json")
on=(-e "@$state/on.json")
repository() { git -C "$state/platform.git" "$@"; }

say "the playbooks apply, and tell Git, while there is no Flux"
k apply --server-side -f files/monitoring/crds.yml >/dev/null
for each in mlflow monitoring; do k create namespace "$each" >/dev/null; done
components=(playbooks/04-minio.yml playbooks/09-fastapi.yml)
play off "${components[@]}"
refused "has nothing of production yet" too-early playbooks/20-gitops.yml "${on[@]}"
play staged "${components[@]}" "${on[@]}"
k -n serving get deployment driftloop-server -o name >/dev/null
repository show main:production/serving.yml >"$state/serving.yml"
[[ $(managers serving deployment driftloop-server) == driftloop ]] || die "somebody else than the playbooks applied it"

if [[ ! -x $flux/kustomize-controller ]]; then
    say "building Flux (some minutes, once)"
    while read -r binary package; do
        (cd files/images/flux && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$flux/$binary" "$package")
    done <files/images/flux/go-build
fi

say "Flux takes over"
play flux playbooks/20-gitops.yml "${on[@]}" &
player=$!
soon 120 k -n gitops get kustomization production || die "the playbook does not come so far: $state/logs/flux.log"
start_flux
wait $player
ready production || die "Flux does not apply: $(k -n gitops get gitrepository,kustomization)"
[[ $(managers serving deployment driftloop-server) == kustomize-controller ]] || die "it is not Flux alone that applies: $(managers serving deployment driftloop-server)"
play again "${components[@]}" playbooks/20-gitops.yml "${on[@]}"
unchanged again

say "what is altered or deleted in the cluster is put back"
k -n serving scale deployment driftloop-server --replicas=3 >/dev/null
k -n serving patch service driftloop-server --type merge -p '{"spec": {"selector": {"app.kubernetes.io/name": "nobody"}}}' >/dev/null
k -n storage delete networkpolicy minio >/dev/null
k -n serving patch deployment driftloop-server --type merge -p '{"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": 1}}}}' >/dev/null
put_back() {
    [[ $(k -n serving get service driftloop-server -o json | jq -r '.spec.selector["app.kubernetes.io/name"]') == driftloop-server ]] &&
        k -n storage get networkpolicy minio >/dev/null 2>&1 &&
        [[ $(k -n serving get deployment driftloop-server -o json | jq -r .spec.strategy.rollingUpdate.maxUnavailable) == 0 ]]
}
began=$SECONDS
soon 60 put_back || die "it is not put back"
say "put back after $((SECONDS - began)) s, at an interval of 10 s"
[[ $(k -n serving get deployment driftloop-server -o 'jsonpath={.spec.replicas}') == 3 ]] || die "Git set the replicas"

say "a change goes through Git alone"
play change playbooks/09-fastapi.yml "${on[@]}" -e server_workers=2
[[ $(changes change) == *"Commit what Git is to say"* ]] || die "nothing was committed"
! changes change | grep -q 'Apply' || die "the playbooks applied something: $(changes change)"
[[ $(k -n serving get deployment driftloop-server -o json | jq -r '.spec.template.spec.containers[0].args[-1]') == 2 ]] || die "the change did not arrive"
[[ $(repository log -1 --format=%s main) == "production: namespace-serving, serving" ]] || die "that is another commit"
play change-again playbooks/09-fastapi.yml "${on[@]}" -e server_workers=2
unchanged change-again

say "Flux can do what its role says and nothing else"
can() { k auth can-i "$@" 2>/dev/null || true; }
account=system:serviceaccount:gitops
[[ $(can patch deployments -n serving --as "$account:production") == yes ]] || die "the account may not what it must"
for each in "get secrets -n serving" "create rolebindings -n serving" "patch deployments -n gitops" "patch deployments -n kube-system" \
    "create serviceaccounts/token -n serving" "create pods/exec -n serving" "delete namespaces"; do
    # shellcheck disable=SC2086
    for who in production kustomize-controller source-controller; do
        [[ $(can $each --as "$account:$who") == no ]] || die "$who may $each"
    done
done
[[ $(can impersonate serviceaccounts/production -n gitops --as "$account:kustomize-controller") == yes ]] || die "it may not act as the account"
[[ $(can impersonate serviceaccounts/default -n gitops --as "$account:kustomize-controller") == no ]] || die "it may act as anybody"
grep -l '"error"' "$state"/logs/{source,kustomize}-controller.log >/dev/null && grep -ohE '"[^"]*forbidden[^"]*"' "$state"/logs/*-controller.log | sort | uniq -c && die "Flux was refused something that it wants"

say "who pushes a Secret, a role, or into another namespace, gets nothing of it"
git clone --quiet "http://127.0.0.1:$git_port/platform.git" "$state/evil" 2>/dev/null
evil() { # WHY FILE
    cp "$state/evil.yml" "$state/evil/production/zz.yml"
    sed -i '/zz.yml/d' "$state/evil/production/kustomization.yaml"
    echo "- zz.yml" >>"$state/evil/production/kustomization.yaml"
    git -C "$state/evil" add --all
    git -C "$state/evil" -c user.name=evil -c user.email=evil@example.test commit --quiet --message "$1"
    git -C "$state/evil" push --quiet origin HEAD:main 2>/dev/null
    forbidden() { k -n gitops get kustomization production -o json | jq -e --arg what "$1" '[.status.conditions[] | select(.type == "Ready" and .status == "False")][0].message | contains("forbidden") and contains($what)' >/dev/null; }
    soon 60 forbidden "$1" || die "$1: $(k -n gitops get kustomization production -o json | jq -r '.status.conditions[0].message')"
}
printf 'apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: evil, namespace: serving}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects: [{kind: ServiceAccount, name: default, namespace: serving}]\n' >"$state/evil.yml"
evil rolebindings
printf 'apiVersion: v1\nkind: Secret\nmetadata: {name: retrainer-token, namespace: serving}\nstringData: {token: mine}\n' >"$state/evil.yml"
evil secrets
printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: evil, namespace: kube-system}\n' >"$state/evil.yml"
evil configmaps
[[ -z $(k get rolebindings -A -o name | grep evil || true) ]] || die "the role came in"
git -C "$state/evil" rm --quiet production/zz.yml
sed -i '/zz.yml/d' "$state/evil/production/kustomization.yaml"
git -C "$state/evil" -c user.name=anna -c user.email=anna@example.test commit --quiet --all --message "take it back"
git -C "$state/evil" push --quiet origin HEAD:main 2>/dev/null
soon 60 ready production || die "it does not go on after that"

say "two environments of one repository; images are promoted by a commit"
staging=(-e gitops_environment=staging -e '{"namespaces": {"storage": "storage", "mlflow": "mlflow", "kubeflow": "kubeflow", "monitoring": "staging", "serving": "staging", "gitops": "gitops", "logs": "logs", "doors": "doors"}}')
targets=(-e '{"gitops_targets": {"production": ["storage", "mlflow", "monitoring", "serving"], "staging": ["staging"]}}')
play staging playbooks/09-fastapi.yml "${on[@]}" "${staging[@]}" "${targets[@]}"
play two-targets playbooks/20-gitops.yml "${on[@]}" "${targets[@]}"
soon 60 ready staging || die "staging is not applied: $(k -n gitops get kustomization staging)"
[[ $(managers staging deployment driftloop-server) == kustomize-controller ]] || die "Flux does not apply staging"
old=$(jq -r .server.reference < <(repository show main:staging/images.json))
new=localhost/driftloop/server:000000000000
echo "$new" >"$state/more-images"
# As a newer checkout would have rendered it: tried in staging first.
git -C "$state/evil" pull --quiet origin main 2>/dev/null
sed -i "s|$old|$new|" "$state"/evil/staging/*.yml
jq --arg new "$new" --arg digest "sha256:$(sha256sum <<<"$new" | cut -c1-64)" '.server = {reference: $new, digest: $digest}' \
    "$state/evil/staging/images.json" >"$state/images.json"
cp "$state/images.json" "$state/evil/staging/images.json"
git -C "$state/evil" -c user.name=anna -c user.email=anna@example.test commit --quiet --all --message "staging: newer"
git -C "$state/evil" push --quiet origin HEAD:main 2>/dev/null
image_of() { k -n "$1" get deployment driftloop-server -o json | jq -r '.spec.template.spec.containers[0].image'; }
arrived() { [[ $(image_of "$1") == "$2" ]]; }
soon 60 arrived staging "$new" || die "staging does not run the new image"
arrived serving "$old" || die "production runs what nobody promoted"
play promoted playbooks/promote.yml "${on[@]}" "${targets[@]}" -e promote_from=staging
arrived serving "$new" || die "what was promoted does not run: $(image_of serving)"
[[ $(repository log -1 --format=%s main) == "production: take server from staging" ]] || die "that is another commit"
play promoted-again playbooks/promote.yml "${on[@]}" "${targets[@]}" -e promote_from=staging
unchanged promoted-again
# From now on the playbooks leave production's images to whoever promotes.
play kept playbooks/09-fastapi.yml "${on[@]}" "${targets[@]}" -e server_workers=2 -e gitops_promoted_from=staging
arrived serving "$new" || die "a playbook took another image than was promoted"
unchanged kept
echo localhost/driftloop/server:000000000001 >"$state/more-images"
refused "which a node lacks and this checkout does not build" lacking playbooks/09-fastapi.yml "${on[@]}" "${targets[@]}" -e server_workers=2 -e gitops_promoted_from=staging
echo "$new" >"$state/more-images"

say "what Git no longer says is taken away, but for volumes"
git -C "$state/evil" pull --quiet origin main 2>/dev/null
sed -i '/serving.yml/{/namespace/!d}' "$state/evil/staging/kustomization.yaml"
git -C "$state/evil" -c user.name=anna -c user.email=anna@example.test commit --quiet --all --message "staging: no servers"
git -C "$state/evil" push --quiet origin HEAD:main 2>/dev/null
taken() { ! k -n staging get deployment driftloop-server >/dev/null 2>&1; }
soon 60 taken || die "what Git no longer says still runs"
k -n staging get persistentvolumeclaim inference -o name >/dev/null || die "a volume was taken away"

say "off again: what runs stays, and is the playbooks'"
before=$(k get deployments,services,configmaps,networkpolicies,statefulsets,jobs -n serving -o json | jq -S '[.items[] | {kind, name: .metadata.name, uid: .metadata.uid, spec, data}]')
count=$(jq length <<<"$before")
((count > 5)) || die "there is too little to see: $count"
# The pods end with their Deployments; here that is us.
for pid in "${pids[@]: -2}"; do kill "$pid"; done
play off-again "${components[@]}" playbooks/20-gitops.yml -e server_workers=2
after=$(k get deployments,services,configmaps,networkpolicies,statefulsets,jobs -n serving -o json | jq -S '[.items[] | {kind, name: .metadata.name, uid: .metadata.uid, spec, data}]')
diff <(jq 'map({kind, name, uid})' <<<"$before") <(jq 'map({kind, name, uid})' <<<"$after") >&2 || die "something was made anew or taken away"
[[ -z $(k get deployments,services,configmaps,persistentvolumeclaims,networkpolicies,horizontalpodautoscalers,servicemonitors,jobs -A -o json --show-managed-fields |
    grep -E 'toolkit.fluxcd.io|kustomize-controller' || true) ]] || die "marks of Flux are left"
[[ $(managers serving deployment driftloop-server) == driftloop ]] || die "it is not the playbooks'"
! k get namespace gitops >/dev/null 2>&1 || die "the namespace is left"
[[ -z $(k get customresourcedefinitions,clusterroles,roles,rolebindings,networkpolicies,servicemonitors,prometheusrules -A -l driftloop/addition=gitops -o name) ]] || die "something is left"
[[ -z $(k api-resources -o name | grep fluxcd || true) ]] || die "its kinds are left"
play off-still "${components[@]}" playbooks/20-gitops.yml -e server_workers=2
unchanged off-still
say "all of it in $SECONDS s"

# --- a bucket in place of Git ---------------------------------------------------------------------------------------

[[ -n ${MINIO:-} ]] || { say "a bucket was not tried: MINIO does not name MinIO's program"; exit 0; }
say "a bucket, where there is no Git server"
store=$(free_port) key=$(openssl rand -hex 12)
mkdir -p "$state/minio"
MINIO_ROOT_USER=owner MINIO_ROOT_PASSWORD=$key begin minio "$MINIO" server "$state/minio" --address "127.0.0.1:$store"
s3() { # PROGRAM
    AWS_ACCESS_KEY_ID=owner AWS_SECRET_ACCESS_KEY=$key AWS_ENDPOINT_URL_S3=http://127.0.0.1:$store AWS_DEFAULT_REGION=us-east-1 \
        AWS_REQUEST_CHECKSUM_CALCULATION=when_required AWS_RESPONSE_CHECKSUM_VALIDATION=when_required .venv/bin/python "$@"
}
made() { s3 -c 'import boto3; boto3.client("s3").create_bucket(Bucket="platform")' 2>/dev/null; }
soon 60 made || die "MinIO does not start: $(tail -n 3 "$state/logs/minio.log")"
(umask 077 && jq -n --arg endpoint "http://127.0.0.1:$store" --arg key "$key" '{gitops_enabled: true, gitops_interval: "10s",
    gitops_bucket: {name: "platform", endpoint: $endpoint, region: "us-east-1"}, gitops_bucket_access_key: "owner",
    gitops_bucket_secret_key: $key, gitops_reader: {accesskey: "owner", secretkey: $key}}' >"$state/on.json")
rm -rf "$state/secrets/gitops" # the working copy of the other remote
# There are no pods: what a Job would upload is uploaded here.
uploads() {
    local done='' name
    while sleep 1; do
        name=$(k -n gitops get jobs --sort-by=.metadata.creationTimestamp -o name 2>/dev/null | tail -n 1)
        [[ -n $name && $name != "$done" ]] || continue
        k -n gitops get configmap gitops-upload -o json >"$state/upload.json"
        jq -r '.binaryData["tree.tar.gz"]' "$state/upload.json" | base64 -d >"$state/tree.tar.gz"
        jq -r '.data["upload.py"]' "$state/upload.json" >"$state/upload.py"
        s3 "$state/upload.py" "$state/tree.tar.gz" platform && done=$name
    done
}
uploads >"$state/logs/uploads.log" 2>&1 &
pids+=($!)
play bucket-staged "${components[@]}" "${on[@]}"
play bucket playbooks/20-gitops.yml "${on[@]}" &
player=$!
soon 120 k -n gitops get kustomization production || die "the playbook does not come so far: $state/logs/bucket.log"
start_flux
wait $player
soon 60 ready production || die "Flux does not apply: $(k -n gitops get bucket,kustomization)"
play bucket-again "${components[@]}" playbooks/20-gitops.yml "${on[@]}"
unchanged bucket-again
play bucket-change playbooks/09-fastapi.yml "${on[@]}" -e server_workers=3
three() { [[ $(k -n serving get deployment driftloop-server -o json | jq -r '.spec.template.spec.containers[0].args[-1]') == 3 ]]; }
soon 60 three || die "the change does not arrive by the bucket: $(k -n gitops get bucket,kustomization)"
versions=$(s3 -c 'import boto3; print(len(boto3.client("s3").list_object_versions(Bucket="platform", Prefix="production/serving.yml")["Versions"]))')
((versions >= 2)) || die "the bucket keeps no versions: $versions"
for pid in "${pids[@]: -2}"; do kill "$pid"; done
play bucket-off "${components[@]}" playbooks/20-gitops.yml -e server_workers=3
[[ $(managers serving deployment driftloop-server) == driftloop ]] || die "it is not the playbooks'"
! k get namespace gitops >/dev/null 2>&1 || die "the namespace is left"
say "all of it in $SECONDS s"
