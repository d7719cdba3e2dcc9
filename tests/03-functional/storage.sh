#!/usr/bin/env bash
# Buckets, databases, backup and restore, versions of data.
# shellcheck disable=SC2016  # jq and Python in single quotes
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"

bucket_there() { as_s3_user root 's3.head_bucket(Bucket=arguments[0])' "$1"; }
own_prefix() { # USER BUCKET PREFIX: writes, reads, deletes
  as_s3_user "$1" 'bucket, key = arguments
s3.put_object(Bucket=bucket, Key=key, Body=b"suite")
assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"suite"
s3.delete_object(Bucket=bucket, Key=key)' "$2" "$3/suite-$RANDOM"
}
big_object() { # several parts, read back whole
  as_s3_user dvc 'import hashlib, io, os
content = os.urandom(17 * 2**20)
s3.upload_fileobj(io.BytesIO(content), data_bucket, "dvc/suite-big")
found = s3.get_object(Bucket=data_bucket, Key="dvc/suite-big")["Body"].read()
s3.delete_object(Bucket=data_bucket, Key="dvc/suite-big")
assert hashlib.sha256(found).digest() == hashlib.sha256(content).digest(), len(found)'
}
database_there() { same "$1" "$(sql postgres "SELECT datname FROM pg_database WHERE datname = '$1'")"; }
owned_by_its_user() { same "$1" "$(sql postgres "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '$1'")"; }
mlflow_tables() { at_least 10 "$(sql mlflow "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'")"; }
kept_out() { # USER DATABASE: may not connect
  same f "$(sql postgres "SELECT has_database_privilege('$1', '$2', 'CONNECT')")"
}

newest_backup() { as_s3_user backup 'found = [o for page in s3.get_paginator("list_objects_v2").paginate(Bucket=data_bucket, Prefix="backups/postgres/") for o in page.get("Contents", [])]
print(max((o["LastModified"].isoformat(), o["Key"]) for o in found) if found else "")'; }
backs_up() {
  sql kfp "DROP TABLE IF EXISTS suite_backup; CREATE TABLE suite_backup AS SELECT 'kept $mark' AS line" || return 1
  always 'sql kfp "DROP TABLE IF EXISTS suite_backup"'
  local before
  before=$(newest_backup) || return 1
  k -n "$storage" create job "suite-backup-$mark" --from=cronjob/postgres-backup >/dev/null || return 1
  always "k -n '$storage' delete job suite-backup-$mark --wait=false"
  soon 180 k -n "$storage" wait --for=condition=Complete "job/suite-backup-$mark" --timeout=5s >/dev/null || { k -n "$storage" logs "job/suite-backup-$mark" --all-containers --tail=20; return 1; }
  [[ $(newest_backup) != "$before" ]] || { echo "no new object in s3://$data_bucket/backups/postgres: newest is '$before'"; return 1; }
}
mark=$RANDOM

for bucket in "$data_bucket" "$mlflow_bucket" "$models_bucket"; do fact "the bucket $bucket exists" bucket_there "$bucket"; done
fact "MLflow's user writes and reads its artifacts" own_prefix mlflow "$mlflow_bucket" artifacts
fact "the trainer's user writes and reads the archive" own_prefix trainer "$models_bucket" archive
fact "DVC's user writes and reads its prefix" own_prefix dvc "$data_bucket" dvc
fact "the reports' user writes and reads its prefix" own_prefix reports "$data_bucket" reports
fact "the backup's user writes and reads its prefix" own_prefix backup "$data_bucket" backups
fact "an object of several parts is read back as it was" big_object
for database in mlflow kfp; do
  fact "the database $database exists" database_there $database
  fact "the database $database belongs to a user of its own" owned_by_its_user $database
done
fact "MLflow's user may not enter the database of Kubeflow Pipelines" kept_out mlflow kfp
fact "the user of Kubeflow Pipelines may not enter MLflow's database" kept_out kfp mlflow
fact "MLflow keeps its tables in PostgreSQL" mlflow_tables
fact "the nightly backup, run now, puts a dump into the object store" backs_up
true
