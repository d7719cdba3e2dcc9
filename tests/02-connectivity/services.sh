#!/usr/bin/env bash
# Every service has pods behind it and answers.
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"

backed() { at_least 1 "$(k -n "$1" get endpointslices -l "kubernetes.io/service-name=$2" -o json | jq '[.items[].endpoints[]? | select(.conditions.ready)] | length')"; }
answers() { ask "$1" "$2:$3" "$4" >/dev/null; }

store_health=/healthz
[[ $store != minio ]] || store_health=/minio/health/ready
while read -r namespace service port path; do
  if ! exists -n "$namespace" service "$service" && [[ $service == grafana || $service == ml-pipeline* ]]; then
    skip "$service answers" "it is not installed"
    continue
  fi
  fact "$service has a ready pod behind it" backed "$namespace" "$service"
  [[ $path == - ]] || fact "$service answers at $path" soon 30 answers "$namespace" "$service" "$port" "$path"
done <<LIST
$storage $store 9000 $store_health
$storage postgres 5432 -
$mlflow mlflow 5000 /health
$monitoring prometheus 9090 /-/ready
$monitoring alertmanager 9093 /-/ready
$monitoring pushgateway 9091 /-/ready
$monitoring grafana 3000 /api/health
$serving driftloop-server 8500 /readyz
$serving driftloop-retrainer 8600 /readyz
$serving driftloop-console 8400 /healthz
$serving driftloop-units 8700 /readyz
$kubeflow ml-pipeline 8888 /apis/v2beta1/healthz
LIST
true
