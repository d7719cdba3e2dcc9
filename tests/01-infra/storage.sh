#!/usr/bin/env bash
# Volumes: bound, as big as promised, and kept.
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"

all_bound() { k get pvc --all-namespaces -o json | jq -r 'if .items == [] then error("there is no claim") else .items[] end | select(.status.phase != "Bound") | "\(.metadata.namespace)/\(.metadata.name): \(.status.phase)"' | none; }
asked_for() { # LABEL SIZE: the claims of that application add up to the size
  same "$2" "$(k -n "$storage" get pvc -o json | jq -r --arg app "$1" '[.items[] | select(.metadata.labels["app.kubernetes.io/name"] == $app or (.metadata.name | contains($app)))][0].spec.resources.requests.storage')"
}
prometheus_keeps() {
  k -n "$monitoring" get prometheuses.monitoring.coreos.com -o json | jq -e '.items[0].spec.retention == "5d"' >/dev/null \
    || { k -n "$monitoring" get prometheuses.monitoring.coreos.com -o json | jq '.items[].spec.retention'; return 1; }
}
survives() { # a file on the store's volume is there again after its pod was made anew
  local mark=suite-$RANDOM$RANDOM
  as_s3_user dvc 's3.put_object(Bucket=data_bucket, Key="dvc/" + arguments[0], Body=b"kept")' "$mark" || return 1
  k -n "$storage" delete pod "$store-0" --wait=true >/dev/null || return 1
  soon 120 k -n "$storage" wait --for=condition=Ready "pod/$store-0" --timeout=5s || return 1
  s3_address=
  soon 30 as_s3_user dvc 'assert s3.get_object(Bucket=data_bucket, Key="dvc/" + arguments[0])["Body"].read() == b"kept"
s3.delete_object(Bucket=data_bucket, Key="dvc/" + arguments[0])' "$mark"
}

fact "every volume claim is bound" all_bound
fact "the object store asked for 50Gi" asked_for "$store" 50Gi
fact "PostgreSQL asked for 10Gi" asked_for postgres 10Gi
if exists crd prometheuses.monitoring.coreos.com; then
  fact "Prometheus keeps five days" prometheus_keeps
else
  skip "Prometheus keeps five days" "the Prometheus Operator is not installed"
fi
fact "an object survives the end of the object store's pod" survives
true
