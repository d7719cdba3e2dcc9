# shellcheck shell=bash
# shellcheck disable=SC2034,SC2016  # names for the files that source this; code for other programs in single quotes
# What every file of the suite stands on; sourced, never run. A fact is a sentence and a command that shows it true: the
# command's output is the evidence where it is not. Needs kubectl, jq, curl and driftloop's .venv (boto3, dvc).
#
# Environment: KUBECONFIG; DRIFTLOOP_KUBECTL (kubectl); NAMESPACE_STORAGE, _MLFLOW, _MONITORING, _SERVING, _KUBEFLOW;
# BUCKET_DATA, _MLFLOW, _MODELS; OBJECT_STORE, minio or seaweedfs;
# MODEL_NAME, the registered model; SUITE_PATIENCE_S, how long to wait at most for what is not so yet: for where it is known to be broken.
set -uo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$repository/.venv/bin/python
# shellcheck source=../scripts/shell.sh
source "$repository/scripts/shell.sh"
read -ra kubectl <<<"${DRIFTLOOP_KUBECTL:-kubectl}"
storage=${NAMESPACE_STORAGE:-storage} mlflow=${NAMESPACE_MLFLOW:-mlflow} monitoring=${NAMESPACE_MONITORING:-monitoring}
serving=${NAMESPACE_SERVING:-serving} kubeflow=${NAMESPACE_KUBEFLOW:-kubeflow}
namespaces=("$storage" "$mlflow" "$monitoring" "$serving")
model=${MODEL_NAME:-rul-lstm}
data_bucket=${BUCKET_DATA:-thesis-data} mlflow_bucket=${BUCKET_MLFLOW:-thesis-mlflow} models_bucket=${BUCKET_MODELS:-thesis-models}
store=${OBJECT_STORE:-minio}
scratch=$(mktemp -d)
counts=${SUITE_COUNTS:-$scratch/counts}
undo=()
export no_proxy=127.0.0.1,localhost NO_PROXY=127.0.0.1,localhost AWS_EC2_METADATA_DISABLED=true
export AWS_REQUEST_CHECKSUM_CALCULATION=when_required AWS_RESPONSE_CHECKSUM_VALIDATION=when_required

finish() {
  local code=$? step
  trap - EXIT
  for step in "${undo[@]}"; do eval "$step" >/dev/null 2>&1; done
  [[ ! -e $scratch/tunnels ]] || xargs kill <"$scratch/tunnels" 2>/dev/null
  rm -rf "$scratch"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

fact() { # "sentence" COMMAND...
  local sentence=$1
  asked "$sentence" || return 0
  shift
  # Not in a subshell: what a fact remembers, the next one may use.
  if "$@" >"$scratch/evidence" 2>&1; then
    echo passed >>"$counts"
    printf 'ok    %s\n' "$sentence"
  else
    echo failed >>"$counts"
    printf 'FAIL  %s\n' "$sentence"
    grep -q '[^[:space:]]' "$scratch/evidence" || echo '(no output)' >"$scratch/evidence"
    tail -n 12 "$scratch/evidence" | cut -c1-400 | sed 's/^/      | /'
    return 1
  fi
}

asked() { [[ -z ${SUITE_ONLY:-} || $1 =~ ^(${SUITE_ONLY:-})$ ]]; } # SENTENCE

skip() { # "sentence" "why"
  asked "$1" || return 0
  echo skipped >>"$counts"
  printf 'skip  %s: %s\n' "$1" "$2"
}

always() { undo=("$1" "${undo[@]}"); } # runs when the file ends, newest first

# Lines on standard input are what is wrong.
none() { local lines; lines=$(cat); [[ -z $lines ]] || { printf '%s\n' "$lines"; return 1; }; }
same() { [[ $1 == "$2" ]] || { printf 'wanted: %s\nfound:  %s\n' "$1" "$2"; return 1; }; }
number() { [[ ${1-} =~ ^-?[0-9]+([.][0-9]+)?(e[+-]?[0-9]+)?$ ]]; }
at_least() { # NUMBER FOUND
  if ! number "${2-}" || ! awk -v least="$1" -v found="$2" 'BEGIN {exit !(found >= least)}'; then echo "wanted at least $1, found '${2-}'"; return 1; fi
}
at_most() { # NUMBER FOUND
  if ! number "${2-}" || ! awk -v most="$1" -v found="$2" 'BEGIN {exit !(found <= most)}'; then echo "wanted at most $1, found '${2-}'"; return 1; fi
}
patience() { local most=${SUITE_PATIENCE_S:-$1}; echo $((most < $1 ? most : $1)); } # SECONDS
soon() { within "$(patience "$1")" "${@:2}"; } # SECONDS COMMAND...

k() { timeout 60 "${kubectl[@]}" --request-timeout=50s "$@"; }
jsonpath() { k get "${@:2}" -o "jsonpath={$1}"; } # PATH WHAT...
exists() { k get "$@" -o name >/dev/null 2>&1; }
installed() { exists namespace "$1" && [[ -n $(k -n "$1" get pods -o name 2>/dev/null) ]]; }
secret() { k -n "$1" get secret "$2" -o json | jq -er --arg key "$3" '.data[$key]' | base64 -d; } # NAMESPACE NAME KEY

# One HTTP request to a Service through the API server: NAMESPACE SERVICE:PORT PATH
ask() { k get --raw "/api/v1/namespaces/$1/services/$2/proxy$3"; }

tunnel() { # NAMESPACE SERVICE PORT -> sets `address`; a port-forward on a free local port until the file ends
  local log=$scratch/tunnel-$2-$3-$RANDOM tries
  "${kubectl[@]}" -n "$1" port-forward --address 127.0.0.1 --pod-running-timeout "$(patience 20)s" "service/$2" ":$3" >"$log" 2>&1 &
  echo $! >>"$scratch/tunnels"
  for ((tries = 0; tries < 100; tries++)); do
    sleep 0.2
    address=$(sed -n 's/^Forwarding from \(127.0.0.1:[0-9]*\).*/\1/p' "$log" | head -n 1)
    [[ -z $address ]] || return 0
    kill -0 $! 2>/dev/null || break
  done
  echo "no tunnel to $1/$2:$3: $(<"$log")" >&2
  return 1
}

# Runs a command in the first ready pod that has these labels: NAMESPACE LABELS COMMAND...
in_pod() {
  local pod
  pod=$(k -n "$1" get pods -l "$2" -o json | jq -er '[.items[] | select(any(.status.conditions[]?; .type == "Ready" and .status == "True"))][0].metadata.name') \
    || { echo "no ready pod with $2 in $1"; return 1; }
  k -n "$1" exec "$pod" -- "${@:3}"
}

# Whether a pod can open a connection; its image has Python or bash: NAMESPACE LABELS HOST PORT
pod_reaches() {
  in_pod "$1" "$2" sh -c '
    if command -v python3 >/dev/null; then
      python3 -c "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).close()" "$0" "$1"
    else bash -c "exec 3<>/dev/tcp/$0/$1" "$0" "$1"; fi' "$3" "$4"
}

# Runs Python with boto3 as one of the store's users: `s3` is its client, `arguments` what follows, `data_bucket` and so on
# the buckets. USER CODE ARGUMENTS...
as_s3_user() {
  [[ -n ${s3_address:-} ]] || { tunnel "$storage" "$store" 9000 || return 1; s3_address=$address; }
  AWS_ACCESS_KEY_ID=$(secret "$storage" "$store-$1" access-key) AWS_SECRET_ACCESS_KEY=$(secret "$storage" "$store-$1" secret-key) \
    "$python" -c "
import sys, boto3
from botocore.config import Config
from botocore.exceptions import ClientError
s3 = boto3.client('s3', endpoint_url='http://$s3_address', region_name='us-east-1', config=Config(retries={'max_attempts': 2}))
arguments = sys.argv[1:]
data_bucket, mlflow_bucket, models_bucket = '$data_bucket', '$mlflow_bucket', '$models_bucket'
$2" "${@:3}"
}

sql() { # DATABASE STATEMENT: as the administrator, one value per line
  # shellcheck disable=SC2016
  k -n "$storage" exec statefulset/postgres -- bash -c \
    'PGPASSWORD=$(</secrets/admin/password) psql -XAtq -v ON_ERROR_STOP=1 -h 127.0.0.1 -U postgres -d "$0" -c "$1"' "$1" "$2"
}

query() { # PROMQL: the values, one a line
  ask "$monitoring" prometheus:9090 "/api/v1/query?query=$(jq -rn --arg q "$1" '$q | @uri')" | jq -r '.data.result[].value[1]'
}

# Objects of the platform's namespaces as one JSON list: KIND. An empty list would please every fact about them.
of_platform() {
  local namespace
  for namespace in "${namespaces[@]}"; do k -n "$namespace" get "$1" -o json | jq -c '.items[]' || exit 1; done \
    | jq -es --arg kind "$1" 'if . == [] then error("there are no \($kind) to look at") else . end'
}

# The version that the registry calls production.
production() { ask "$mlflow" mlflow:5000 "/api/2.0/mlflow/registered-models/alias?name=$model&alias=production" | jq -er .model_version.version; }
# False only where the registry says that there is none: one that does not answer is for a fact to tell.
promoted() {
  local answer
  answer=$(production 2>&1) || [[ $answer != *'could not find the requested resource'* && $answer != *'rejected our request'* ]]
}
