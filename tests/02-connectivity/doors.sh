#!/usr/bin/env bash
# Closed doors: without the right key nobody gets in.
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"

status_of() { # wanted STATUS from URL: WANTED CURL ARGUMENTS...
  local found
  found=$(curl --silent --output "$scratch/body" --write-out '%{http_code}' --max-time 20 "${@:2}")
  [[ $1 == "$found" ]] || { echo "wanted $1, found $found: $(head -c 300 "$scratch/body")"; return 1; }
}
postgres_refuses() { # PASSWORD
  local answer
  # shellcheck disable=SC2016
  answer=$(k -n "$storage" exec statefulset/postgres -- env PGPASSWORD="$1" psql -XAt -h 127.0.0.1 -U mlflow -d mlflow -c 'SELECT 1' 2>&1) && { echo "let in: $answer"; return 1; }
  grep -qE 'authentication failed|no password supplied' <<<"$answer" || { echo "$answer"; return 1; }
}
retrainer_refuses() { tunnel "$serving" driftloop-retrainer 8600 && status_of 401 -X POST -H 'Content-Type: application/json' -d '{}' "http://$address/$1"; }
units_refuse() { tunnel "$serving" driftloop-units 8700 && status_of 401 -X POST -H 'Content-Type: application/json' -d '[]' "http://$address/telemetry"; }
mlflow_refuses() { tunnel "$mlflow" mlflow 5000 && status_of 403 -H 'Host: evil.example' "http://$address/api/2.0/mlflow/experiments/search?max_results=1"; }
s3_refuses() { tunnel "$storage" "$store" 9000 && status_of 403 "http://$address/$mlflow_bucket?list-type=2"; }
denied() { # USER ACTION: refused with AccessDenied
  as_s3_user "$1" "
try:
    $2
except ClientError as error:
    assert error.response['Error']['Code'] in ('AccessDenied', '403'), error
else:
    sys.exit('it was allowed')"
}

fact "the object store refuses who has no key" s3_refuses
fact "MLflow's user of the store may not read the data" denied mlflow "s3.list_objects_v2(Bucket=data_bucket)"
fact "DVC's user may not write models" denied dvc "s3.put_object(Bucket=models_bucket, Key='x', Body=b'')"
fact "the backup's user may not write outside its prefix" denied backup "s3.put_object(Bucket=data_bucket, Key='dvc/x', Body=b'')"
fact "the trainer's user may not delete MLflow's artifacts" denied trainer "s3.delete_object(Bucket=mlflow_bucket, Key='artifacts/x')"
fact "PostgreSQL refuses a wrong password" postgres_refuses wrong-password
fact "PostgreSQL refuses an empty password" postgres_refuses ''
fact "MLflow refuses a Host that is not its own" mlflow_refuses
fact "the retrainer refuses an alert without the token" retrainer_refuses alerts
fact "the retrainer refuses a promotion without the token" retrainer_refuses promote
fact "the retrainer refuses runs without the token" retrainer_refuses archive/runs
fact "the fleet in service refuses rows without the token" units_refuse
true
