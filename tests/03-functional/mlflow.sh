#!/usr/bin/env bash
# Experiment tracking and the registry, over MLflow's documented REST API.
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"
tunnel "$mlflow" mlflow 5000 || exit 1
api=http://$address/api/2.0
mark=suite-$RANDOM$RANDOM

call() { curl --silent --show-error --fail-with-body --max-time 30 -H 'Content-Type: application/json' -H "Host: mlflow.$mlflow.svc:5000" "$@"; }
logs_a_run() {
  experiment=$(call -d "{\"name\": \"$mark\"}" "$api/mlflow/experiments/create" | jq -er .experiment_id) || return 1
  echo "$experiment" >"$scratch/experiment"
  call -d "{\"experiment_id\": \"$experiment\", \"start_time\": $(date +%s000)}" "$api/mlflow/runs/create" | jq -er .run.info.run_id >"$scratch/run" || return 1
  call -d "{\"run_id\": \"$(<"$scratch/run")\", \"key\": \"rmse\", \"value\": 12.5, \"timestamp\": $(date +%s000)}" "$api/mlflow/runs/log-metric" >/dev/null
}
reads_it_back() { same 12.5 "$(call "$api/mlflow/runs/get?run_id=$(<"$scratch/run")" | jq -r '.run.data.metrics[] | select(.key == "rmse").value')"; }
in_postgres() { same "$mark" "$(sql mlflow "SELECT name FROM experiments WHERE name = '$mark'")"; }
keeps_an_artifact() { # through MLflow's proxy; it must lie in the bucket
  local path
  path=$(call "$api/mlflow/runs/get?run_id=$(<"$scratch/run")" | jq -er .run.info.artifact_uri | sed 's#^mlflow-artifacts:/*##') || return 1
  echo "$path" >"$scratch/path"
  call -X PUT --data-binary "$mark" -H 'Content-Type: application/octet-stream' "$api/mlflow-artifacts/artifacts/$path/suite.txt" >/dev/null || return 1
  as_s3_user mlflow 'keys = [o["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=mlflow_bucket, Prefix="artifacts/") for o in page.get("Contents", [])]
matches = [key for key in keys if key.endswith(arguments[0] + "/suite.txt")]
assert matches, f"not among the {len(keys)} objects of the bucket"
assert s3.get_object(Bucket=mlflow_bucket, Key=matches[0])["Body"].read().decode() == arguments[1]' "$path" "$mark"
}
gives_it_back() { same "$mark" "$(call "$api/mlflow-artifacts/artifacts/$(<"$scratch/path")/suite.txt")"; }
registers() {
  call -d "{\"name\": \"$mark\"}" "$api/mlflow/registered-models/create" >/dev/null &&
    call -d "{\"name\": \"$mark\", \"source\": \"mlflow-artifacts:/$(<"$scratch/path")\", \"run_id\": \"$(<"$scratch/run")\"}" "$api/mlflow/model-versions/create" >/dev/null &&
    call -d "{\"name\": \"$mark\", \"alias\": \"production\", \"version\": \"1\"}" "$api/mlflow/registered-models/alias" >/dev/null
}
finds_the_alias() { same 1 "$(call "$api/mlflow/registered-models/alias?name=$mark&alias=production" | jq -r .model_version.version)"; }
deletes() {
  call -X DELETE -d "{\"name\": \"$mark\"}" "$api/mlflow/registered-models/delete" >/dev/null && call -d "{\"experiment_id\": \"$(<"$scratch/experiment")\"}" "$api/mlflow/experiments/delete" >/dev/null
}

fact "a run is logged" logs_a_run
fact "the run's metric is read back" reads_it_back
fact "the run lies in PostgreSQL" in_postgres
fact "the run's artifact lies in the object store" keeps_an_artifact
fact "MLflow gives the artifact back" gives_it_back
fact "a model version is registered and gets the alias production" registers
fact "the alias leads to the version" finds_the_alias
fact "what the test logged is deleted again" deletes
true
