#!/usr/bin/env bash
# Breaks one cause after another on a running lab, asks the suite's file that must notice, mends the cause, and so shows
# that each fact of a healthy run can fail: exactly the facts that hang on the cause fail, each with evidence.
#
# What is broken is real wherever it can be undone in seconds: by new objects, by what lies in the databases and buckets,
# by pods that find no node. Objects that the playbooks own are left alone, since who edits one owns a part of it from then
# on; there, and for states that cannot be made safely, the suite is given altered answers (see altered-kubectl).
#
# Usage: broken.sh HEALTHY RESULTS [CAUSE]...     by test.sh, in the node's network
#   HEALTHY   log of a run of the whole suite without a failure: its facts are those that must be seen failing
#   RESULTS   folder for broken.log, all that the suite said meanwhile
#   CAUSE     only these of the functions below
# Environment: DRIFTLOOP_LAB_STATE, OBSERVABILITY_DIR and those of tests/_lib.sh.
# shellcheck disable=SC2016  # jq, Python and SQL in single quotes
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../_lib.sh
source "$here/../_lib.sh"
healthy_log=${1:?usage: broken.sh HEALTHY RESULTS [CAUSE]...} log=${2:?usage: broken.sh HEALTHY RESULTS [CAUSE]...}/broken.log
state=${DRIFTLOOP_LAB_STATE:?} scripts=${OBSERVABILITY_DIR:?}
export REAL_KUBECTL="${kubectl[*]}" ALTERATIONS=$scratch/alterations
patience_s=2 cause='' began=0 problems=0
touch "$ALTERATIONS" "$scratch/seen" "$scratch/noticed"
: >"$log"
awk '/^# / {file = $2} /^ok    / {print file "\t" substr($0, 7)}' "$healthy_log" >"$scratch/healthy"

# --- how a cause is shown ------------------------------------------------------------------------------------------

breaking() { # "what is broken"; what was broken before may still be
  [[ ! -s $scratch/noticed ]] || tell
  cause=$1 began=$SECONDS
}

tell() {
  printf '%s (%s s): %s\n' "$cause" $((SECONDS - began)) "$(sort -u "$scratch/noticed" | paste -sd ';' | sed 's/;/; /g')"
  cat "$scratch/noticed" >>"$scratch/seen"
  : >"$scratch/noticed"
}

alter() { printf '%s\t%s\n' "$1" "$2" >>"$ALTERATIONS"; } # REGEX HOW: see altered-kubectl

problem() {
  printf 'broken: %s: %s\n' "$cause" "$1" >&2
  problems=$((problems + 1))
}

facts_of() { awk -F '\t' -v file="$1" '$1 == file {print $2}' "$scratch/healthy"; } # FILE

# Asks a file of the suite; the facts that match FACTS must fail, and no other. With --only no other is asked but those
# that match ALSO, which come first and must hold.
shows() { # [--only] FILE FACTS [ALSO]
  local only=() command=$REAL_KUBECTL wanted failed line
  [[ $1 != --only ]] || { only=(--only "$3${4:+|$4}"); shift; }
  [[ ! -s $ALTERATIONS ]] || command=$here/altered-kubectl
  SUITE_PATIENCE_S=$patience_s DRIFTLOOP_KUBECTL=$command "$here/../run-all.sh" "${only[@]}" "$1.sh" >"$scratch/said" 2>&1
  { printf '\n### %s\n' "$cause"; cat "$scratch/said"; } >>"$log"
  wanted=$(facts_of "$1" | grep -xE "$2")
  failed=$(sed -n 's/^FAIL  //p' "$scratch/said" | grep -v '\.sh runs to its end$')
  [[ $wanted ]] || problem "no fact of $1 matches: $2"
  while read -r line; do problem "this fact still holds: $line"; done < <(comm -23 <(sort <<<"$wanted") <(sort <<<"$failed") | grep .)
  while read -r line; do problem "this fact fails as well: $line"; done < <(comm -13 <(sort <<<"$wanted") <(sort <<<"$failed") | grep .)
  while read -r line; do problem "this fact fails without evidence: $line"; done < <(grep -B 1 '^      | (no output)$' "$scratch/said" | sed -n 's/^FAIL  //p')
  grep . <<<"$failed" >>"$scratch/noticed"
}

mend() { # [COMMAND...]: takes back what was done, waits for the command, tells what was seen
  local step
  for step in "${undo[@]}"; do eval "$step" >>"$log" 2>&1 || problem "this cannot be undone: $step"; done
  undo=()
  : >"$ALTERATIONS"
  (($# == 0)) || "$@" >>"$log" 2>&1 || problem "it is not well again: $*"
  tell
}

pods_well() { "$here/../run-all.sh" --only 'every pod in .* is ready|name resolution runs' 01-infra/cluster.sh; }
# Also what Prometheus sees, which asks some targets every 30 s only.
all_well() { soon 120 pods_well && soon 120 "$scripts/healthcheck.sh"; }
away() { k -n "$1" delete pods -l "$2" --wait=true >/dev/null; } # NAMESPACE LABELS

# --- answers that are altered --------------------------------------------------------------------------------------

altered_cluster() {
  breaking "the cluster's answers tell of broken nodes, missing namespaces and a container out of memory"
  alter '--raw /readyz$' -
  alter 'get nodes -o json' '.items[].status.conditions |= map(if .type == "Ready" then .status = "False" elif .type == "MemoryPressure" then .status = "True" else . end)'
  alter 'metrics.k8s.io/v1beta1/nodes$' '.items = []'
  alter 'get namespace [a-z]+ -o name' -
  alter '-n serving get pods -o json' '.items[0].status.containerStatuses[0].lastState.terminated = {reason: "OOMKilled"}'
  shows 01-infra/cluster 'the API server is ready|every node is ready|no node is short of .*|the metrics server knows every node|the namespace (storage|mlflow|monitoring|serving) exists|every pod in .* is ready|no container was ended for want of memory'
  mend
}

altered_namespaces() {
  breaking "the namespaces' answers tell of another Pod Security, no default-deny and 10 GiB in each container"
  alter 'get namespace [a-z]+ -o json' '.metadata.labels["pod-security.kubernetes.io/enforce"] = "baseline"'
  alter 'get networkpolicies -o json' '.items |= map(select(.metadata.name != "default-deny"))'
  alter 'metrics.k8s.io/v1beta1/namespaces' '.items[].containers[].usage.memory = "10Gi"'
  shows 01-infra/security '.* admits only pods that Pod Security allows there|.* lets nothing in or out that no policy names|the platform uses at most 6 GiB'
  mend
}

altered_sizes() {
  breaking "the answers about volumes and Prometheus tell of small claims and one day"
  alter 'get pvc' '.items[].spec.resources.requests.storage = "1Gi"'
  alter 'get prometheuses' '.items[].spec.retention = "1d"'
  shows --only 01-infra/storage 'the object store asked for 50Gi|PostgreSQL asked for 10Gi|Prometheus keeps five days'
  mend
}

altered_doors() {
  breaking "MLflow, the retrainer and the fleet in service let everybody in"
  alter 'port-forward .*service/(mlflow|driftloop-retrainer|driftloop-units)' 200
  shows --only 02-connectivity/doors 'MLflow refuses a Host that is not its own|the retrainer refuses .*|the fleet in service refuses .*'
  alter 'port-forward .*service/driftloop-console' 200
  shows 03-functional/units 'rows of a unit are kept|the same rows sent again are known|what a unit sent is predicted|the console .*'
  mend
}

altered_monitoring() {
  breaking "Prometheus' and Alertmanager's answers tell of one rule that fails, another route and a token"
  alter 'proxy/api/v1/rules' '.data.groups = [.data.groups[0] | .rules = [.rules[0] | .name = "Other" | .health = "err" | .lastError = "altered"]]'
  alter 'alertmanager:9093/proxy/api/v2/status' '.config.original |= (gsub("group_wait: 0s"; "group_wait: 30s") | gsub("receiver: retrainer"; "receiver: people") | . + "\ncredentials: in-plain\n")'
  shows --only 03-functional/monitoring 'Prometheus has loaded the rules|every rule can be evaluated|there is a rule for predictions that fail|an alert of drift is sent without waiting for others|Alertmanager calls the retrainer|Alertmanager does not show the retrainer.s token'
  mend
}

altered_retrainer() {
  breaking "something else answers in the retrainer's place, and the report is suspended"
  alter 'port-forward .*service/driftloop-retrainer' 200
  alter 'get cronjob drift-report' '.spec.suspend = true'
  shows --only 99-integration/loop 'the retrainer tells its status|an alert goes from .*|a completed run is archived once.*|the event log survives .*|the drift report is made every hour'
  mend
}

altered_server() {
  breaking "something else answers in the server's place, the registry names another version, nothing to scale by, no pod in the budget"
  alter 'port-forward .*service/driftloop-server' 200
  alter 'registered-models/alias' '.model_version.version = "999"'
  alter 'get poddisruptionbudgets' '.items[].status.expectedPods = 0'
  alter 'get horizontalpodautoscalers' '(.items[].status.conditions[] | select(.type == "ScalingActive")).status = "False"'
  shows --only 99-integration/serving 'a prediction comes with .*|three windows .*|the same window .*|a row that is too short .*|a value that is no number .*|every prediction is counted once|the served model is .*|the server has a disruption budget|the server.s autoscaler is able to scale'
  mend
}

blind_scripts() {
  breaking "healthcheck.sh and port-forward-all.sh say that all is well and do nothing"
  mkdir "$scratch/blind"
  printf '#!/bin/sh\necho "{}"\n' | tee "$scratch/blind/healthcheck.sh" >"$scratch/blind/port-forward-all.sh"
  chmod +x "$scratch/blind"/*
  OBSERVABILITY_DIR=$scratch/blind shows 99-integration/observability 'healthcheck.sh (tells|notices|has an exit code).*|port-forward-all.sh .*'
  mend soon 60 pods_well
}

# --- objects that should not be there ------------------------------------------------------------------------------

# Nothing of this ever runs: no node has the label that it asks for.
restricted='{"nodeSelector": {"suite": "nowhere"}, "restartPolicy": "Never", "automountServiceAccountToken": false,
  "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
  "containers": [{"name": "none", "image": "none:1", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": "1Mi"}},
    "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}}]}'
careless='{"nodeSelector": {"suite": "nowhere"}, "automountServiceAccountToken": true, "containers": [{"name": "none", "image": "none:latest",
  "imagePullPolicy": "Always", "args": ["--password=in-plain-sight"], "env": [{"name": "DATABASE_PASSWORD", "value": "in-plain-sight"}],
  "securityContext": {"privileged": true}, "resources": {"requests": {"memory": "13Gi"}}}]}'
make() { # KIND APIVERSION NAMESPACE JQ OBJECT: an object named suite-broken, away again when the cause is mended
  always "k -n '$3' delete '$1' suite-broken --wait=true --grace-period=0 --ignore-not-found"
  jq -nc --arg kind "$1" --arg version "$2" --arg namespace "$3" '{kind: $kind, apiVersion: $version, metadata: {name: "suite-broken", namespace: $namespace}} * '"$4" | k create -f - >/dev/null 2>>"$log" || problem "no $1 can be made"
}
failed_job() { k -n "$storage" get job suite-broken -o json | jq -e 'any(.status.conditions[]?; .type == "Failed")'; }
dead_target() { ask "$monitoring" prometheus:9090 '/api/v1/targets?state=active' | jq -e 'any(.data.activeTargets[]; .scrapeUrl | contains("192.0.2.1"))'; }

forbidden_objects() {
  breaking "objects that break the rules"
  make StorageClass storage.k8s.io/v1 '' '{metadata: {annotations: {"storageclass.kubernetes.io/is-default-class": "true"}}, provisioner: "suite/none"}'
  make Deployment apps/v1 default "{spec: {replicas: 0, selector: {matchLabels: {suite: \"broken\"}}, template: {metadata: {labels: {suite: \"broken\"}}, spec: ($restricted | .restartPolicy = \"Always\")}}}"
  make Job batch/v1 "$storage" "{spec: {backoffLimit: 0, activeDeadlineSeconds: 1, template: {spec: $restricted}}}"
  for namespace in "$storage" "$mlflow" "$serving"; do make Pod v1 "$namespace" "{spec: $restricted}"; done
  make Pod v1 "$monitoring" "{spec: $careless}"
  make ClusterRoleBinding rbac.authorization.k8s.io/v1 '' "{roleRef: {apiGroup: \"rbac.authorization.k8s.io\", kind: \"ClusterRole\", name: \"cluster-admin\"}, subjects: [{kind: \"ServiceAccount\", namespace: \"$serving\", name: \"suite-broken\"}]}"
  make Service v1 "$serving" '{spec: {type: "NodePort", ports: [{port: 1}], selector: {suite: "broken"}}}'
  make PersistentVolumeClaim v1 "$serving" '{spec: {storageClassName: "suite-nowhere", accessModes: ["ReadWriteOnce"], resources: {requests: {storage: "1Mi"}}}}'
  # A target of Prometheus that nobody answers at: this address is kept for documentation.
  make Service v1 "$monitoring" '{metadata: {labels: {"app.kubernetes.io/name": "pushgateway"}}, spec: {clusterIP: "None", ports: [{name: "http", port: 9091}]}}'
  make Endpoints v1 "$monitoring" '{metadata: {labels: {"app.kubernetes.io/name": "pushgateway"}}, subsets: [{addresses: [{ip: "192.0.2.1"}], ports: [{name: "http", port: 9091}]}]}'
  soon 20 failed_job >/dev/null || problem "the Job does not fail"
  shows 01-infra/cluster 'there is exactly one default storage class|every pod in .* is ready|no Job has failed|the namespace default is empty'
  shows 01-infra/security 'no container runs as root|every root file system .*|every container .*|no container may gain privileges|no image is called latest.*|only pods with an account .*|no account of the platform .*|no secret stands .*|no service is open .*|all requests of memory .*'
  NAMESPACE_SERVING=$monitoring shows --only 01-infra/security 'a privileged pod is refused|a pod that shares .* is refused'
  shows --only 01-infra/storage 'every volume claim is bound'
  soon 40 dead_target >/dev/null || problem "Prometheus does not see the target"
  shows --only 03-functional/monitoring 'every target of Prometheus is up'
  mend
}

no_quota() {
  breaking "no pod may be made"
  # Any change of its object makes the controller try again at once, not when its patience says so.
  for step in suite- suite=mended; do always "k -n '$monitoring' annotate replicasets -l app.kubernetes.io/name=pushgateway $step"; done
  always 'k -n "$monitoring" delete quota nothing-starts'
  k -n "$monitoring" create quota nothing-starts --hard=pods=0 >/dev/null
  away "$monitoring" app.kubernetes.io/name=pushgateway
  shows --only 01-infra/cluster 'every pod in monitoring is ready'
  mend soon 60 pods_well
}

# --- databases -----------------------------------------------------------------------------------------------------

away_tables() {
  breaking "MLflow's tables are not where it looks for them"
  always "sql mlflow 'ALTER SCHEMA away RENAME TO public'"
  sql mlflow 'ALTER SCHEMA public RENAME TO away' || problem "the tables stay"
  shows --only 03-functional/storage 'MLflow keeps its tables in PostgreSQL'
  shows 03-functional/mlflow '.*'
  mend
}

open_databases() {
  breaking "databases with other owners and open to each other's users"
  for pair in 'mlflow kfp' 'kfp mlflow'; do
    read -r database other <<<"$pair"
    always "sql postgres 'ALTER DATABASE $database OWNER TO $database'"
    sql postgres "ALTER DATABASE $database OWNER TO postgres" || problem "the owner stays"
    always "sql postgres 'REVOKE CONNECT ON DATABASE $database FROM $other'"
    sql postgres "GRANT CONNECT ON DATABASE $database TO $other" || problem "the door stays closed"
  done
  shows --only 03-functional/storage 'the database .* belongs to .*|MLflow.s user may not enter .*|the user of Kubeflow Pipelines .*'
  mend
}

in_postgres() { k -n "$storage" exec statefulset/postgres -- bash -c "$1"; }

open_postgres() {
  breaking "PostgreSQL asks for no password"
  always 'in_postgres "mv \"\$PGDATA/pg_hba.kept\" \"\$PGDATA/pg_hba.conf\"" && sql postgres "SELECT pg_reload_conf()"'
  in_postgres 'cp "$PGDATA/pg_hba.conf" "$PGDATA/pg_hba.kept" && sed -i "1i host all all 127.0.0.1/32 trust" "$PGDATA/pg_hba.conf"' || problem "passwords are still asked for"
  sql postgres 'SELECT pg_reload_conf()' >/dev/null
  shows --only 02-connectivity/doors 'PostgreSQL refuses .*'
  mend
}

renamed_databases() {
  breaking "both databases have another name"
  for database in mlflow kfp; do
    always "sql postgres 'ALTER DATABASE $database ALLOW_CONNECTIONS true'"
    sql postgres "ALTER DATABASE $database ALLOW_CONNECTIONS false"
    sql postgres "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '$database'" >/dev/null
    always "sql postgres 'ALTER DATABASE ${database}_away RENAME TO $database'"
    sql postgres "ALTER DATABASE $database RENAME TO ${database}_away" || problem "the name stays"
  done
  shows --only 03-functional/storage 'the database .* exists'
  mend
}

# --- the object store ----------------------------------------------------------------------------------------------

# What each of the store's users may do: JQ FILTER of a policy
policies() {
  k -n "$storage" get configmap minio-setup -o json | jq -c '.data["desired.json"] | fromjson.policies | map_values('"$1"')' >"$scratch/policies"
  s3_address=
  as_s3_user root '
import json, urllib.request
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
for name, policy in json.load(open(arguments[0])).items():
    url, body = s3.meta.endpoint_url + "/minio/admin/v3/add-canned-policy", json.dumps(policy).encode()
    request = AWSRequest("PUT", url, params={"name": name}, data=body)
    S3SigV4Auth(boto3.Session().get_credentials(), "s3", "us-east-1").add_auth(request)
    prepared = request.prepare()
    urllib.request.urlopen(urllib.request.Request(prepared.url, body, dict(prepared.headers.items()), method="PUT"))' "$scratch/policies"
}
allowing() { printf '{Version: "2012-10-17", Statement: [{Effect: "Allow", Action: ["%s"], Resource: ["arn:aws:s3:::*"]}]}' "$1"; }

open_store() {
  breaking "every user of the object store may do everything, and who has no key may list MLflow's bucket"
  always 'policies .'
  policies "$(allowing 's3:*')" || problem "the policies stay"
  always 'as_s3_user root "s3.delete_bucket_policy(Bucket=mlflow_bucket)"'
  as_s3_user root 's3.put_bucket_policy(Bucket=mlflow_bucket, Policy=arguments[0])' \
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::thesis-mlflow"]}]}' || problem "the bucket stays closed"
  always 'as_s3_user root "s3.delete_object(Bucket=models_bucket, Key=\"x\"); s3.delete_object(Bucket=data_bucket, Key=\"dvc/x\")"'
  shows 02-connectivity/doors 'the object store refuses .*|MLflow.s user of the store may not .*|DVC.s user may not .*|the backup.s user may not .*|the trainer.s user may not .*'
  mend
}

closed_store() {
  breaking "no user of the object store may read or write"
  always 'policies .'
  policies "$(allowing s3:GetBucketLocation)" || problem "the policies stay"
  shows --only 03-functional/storage '.* user writes and reads .*|an object of several parts .*'
  shows 03-functional/data '.*'
  shows --only 99-integration/restore 'the dump is fetched from the object store'
  mend
}

no_dump() {
  breaking "the newest dump is none"
  always 's3_address= as_s3_user root "s3.delete_object(Bucket=data_bucket, Key=\"backups/postgres/kfp/broken.dump\")"'
  s3_address=
  as_s3_user backup 's3.put_object(Bucket=data_bucket, Key="backups/postgres/kfp/broken.dump", Body=b"PGDMP, but no dump")' || problem "it is not stored"
  shows --only 99-integration/restore 'the dump is restored .*|the restored database holds the row' 'the dump is fetched .*'
  mend
}

moved_buckets() {
  breaking "the buckets are not where the object store keeps them"
  buckets=$(dirname "$(find "$state/root/volumes" -mindepth 2 -maxdepth 2 -type d -name thesis-mlflow)")
  if [[ -d $buckets/thesis-mlflow ]]; then
    mkdir -p "$state/root/moved"
    always "mv '$state/root/moved'/thesis-* '$buckets/' && rmdir '$state/root/moved'"
    mv "$buckets"/thesis-* "$state/root/moved/"
  else
    problem "the volume of the object store is not found"
  fi
  shows --only 03-functional/storage 'the bucket .* exists'
  mend
}

# --- pods that find no node ----------------------------------------------------------------------------------------

unseen() { same '' "$(query 'count(up{job=~".*(alertmanager|pushgateway).*"})')"; }

no_node() {
  breaking "no pod finds a node, and Alertmanager and the Pushgateway are gone"
  mapfile -t nodes < <(k get nodes -o name)
  always 'k uncordon "${nodes[@]}"'
  k cordon "${nodes[@]}" >/dev/null
  away "$monitoring" 'app.kubernetes.io/name in (alertmanager, pushgateway)'
  shows 02-connectivity/services '(alertmanager|pushgateway) .*'
  shows --only 99-integration/loop 'an alert goes from .*|the production model.s baseline is mirrored .*'
  shows --only 99-integration/observability 'healthcheck.sh finds the platform well|healthcheck.sh tells .*'
  shows --only 99-integration/restore 'a backup is made .*'
  shows --only 03-functional/storage 'the nightly backup.*'
  soon 30 unseen >/dev/null || problem "Prometheus still sees them"
  shows --only 03-functional/monitoring 'Prometheus knows an Alertmanager|Prometheus scrapes (alertmanager|pushgateway)|a figure that is pushed .*'

  breaking "then Prometheus goes and does not come back"
  patience_s=1
  shows --only 03-functional/monitoring 'Prometheus keeps its samples over .*'
  shows 03-functional/monitoring '.*'
  shows --only 02-connectivity/flows 'the drift watch reaches Prometheus'

  breaking "then the object store and PostgreSQL"
  shows --only 01-infra/storage 'an object survives .*'
  away "$storage" app.kubernetes.io/name=postgres
  shows 03-functional/data '.*'
  shows 03-functional/storage '.*'
  shows 99-integration/restore '.*'
  shows 02-connectivity/flows 'the drift watch reaches Prometheus|the retrainer reaches the object store|MLflow reaches .*|the fleet in service reaches .*|the console reaches the fleet in service'

  breaking "then MLflow, the retrainer and name resolution"
  away "$mlflow" app.kubernetes.io/name=mlflow
  shows --only 99-integration/serving 'the served model is .*'
  shows --only 99-integration/loop 'the event log survives .*'
  shows 02-connectivity/flows '.* reaches .*'
  away kube-system k8s-app=kube-dns
  shows --only 02-connectivity/flows 'the prediction server resolves .*'

  breaking "then the servers"
  away "$serving" 'app.kubernetes.io/name=driftloop-server'
  shows 02-connectivity/services '.*'
  shows 01-infra/cluster 'every pod in .* is ready|name resolution runs'
  patience_s=2
  mend all_well
  # What the suite could not take away again, since the store was gone.
  s3_address=
  as_s3_user root 'for found in s3.list_objects_v2(Bucket=data_bucket, Prefix="dvc/suite-").get("Contents", []):
    s3.delete_object(Bucket=data_bucket, Key=found["Key"])'
}

# --- servers that end under traffic ---------------------------------------------------------------------------------

servers_end() { for _ in 1 2 3; do sleep 5; k -n "$serving" delete pods -l app.kubernetes.io/name=driftloop-server --force --grace-period=0 2>/dev/null; done; }
killed_servers() {
  breaking "all servers are killed under traffic"
  for fact in 'no request fails while the server is rolled out anew' 'no request fails while a pod of the server is deleted'; do
    servers_end >>"$log" &
    patience_s=30 shows --only 99-integration/serving "$fact"
    wait $!
  done
  mend all_well
}

# --- the account ----------------------------------------------------------------------------------------------------

causes=(altered_cluster altered_namespaces altered_sizes altered_doors altered_monitoring altered_retrainer altered_server
  blind_scripts forbidden_objects no_quota away_tables open_databases open_postgres renamed_databases open_store closed_store no_dump moved_buckets no_node
  killed_servers)
for step in "${@:3}"; do
  [[ " ${causes[*]} " == *" $step "* ]] || { echo "broken: no cause is called '$step'; there are: ${causes[*]}" >&2; exit 2; }
done
(($# <= 2)) || causes=("${@:3}")
for step in "${causes[@]}"; do "$step"; done

cause="in the end"
sort -u "$scratch/seen" -o "$scratch/seen"
while read -r fact; do
  problem "this fact was never seen failing: $fact"
done < <(cut -f 2 "$scratch/healthy" | sort -u | comm -23 - "$scratch/seen")
printf '%s of %s facts were seen failing, each with evidence\n' \
  "$(cut -f 2 "$scratch/healthy" | sort -u | comm -12 - "$scratch/seen" | wc -l)" "$(cut -f 2 "$scratch/healthy" | sort -u | wc -l)"
((problems == 0)) || echo "$problems problems; all that the suite said: $log"
((problems == 0))
