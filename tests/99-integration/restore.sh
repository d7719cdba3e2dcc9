#!/usr/bin/env bash
# The newest dump of PostgreSQL is restored into an empty database and holds what was there when it was made.
# shellcheck disable=SC2016  # SQL and Python in single quotes
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"
mark=suite_$RANDOM

dumps() {
  sql kfp "DROP TABLE IF EXISTS suite_restore; CREATE TABLE suite_restore AS SELECT '$mark'::text AS line" || return 1
  always 'sql kfp "DROP TABLE IF EXISTS suite_restore"'
  k -n "$storage" create job "restore-${mark/_/-}" --from=cronjob/postgres-backup >/dev/null || return 1
  always "k -n '$storage' delete job 'restore-${mark/_/-}' --wait=false"
  soon 180 k -n "$storage" wait --for=condition=Complete "job/restore-${mark/_/-}" --timeout=5s >/dev/null || { k -n "$storage" logs "job/restore-${mark/_/-}" --all-containers --tail=20; return 1; }
}
fetches() { # the newest dump of the database kfp
  as_s3_user backup 'found = [o for page in s3.get_paginator("list_objects_v2").paginate(Bucket=data_bucket, Prefix="backups/postgres/") for o in page.get("Contents", []) if "kfp" in o["Key"]]
newest = max(found, key=lambda o: (o["LastModified"], o["Key"]))
print(newest["Key"], newest["Size"])
s3.download_file(data_bucket, newest["Key"], arguments[0])' "$scratch/dump"
}
restores() {
  [[ -s $scratch/dump ]] || { echo "there is no dump"; return 1; }
  sql postgres "DROP DATABASE IF EXISTS suite_restored" && sql postgres "CREATE DATABASE suite_restored" || return 1
  always 'sql postgres "DROP DATABASE IF EXISTS suite_restored"'
  local reader=cat
  case $(head -c 5 "$scratch/dump" | xxd -p) in
    1f8b*) reader='gzip -dc' ;;
    5047444d50) reader=custom ;;
  esac
  if [[ $reader == custom ]]; then
    k -n "$storage" exec -i statefulset/postgres -- bash -c 'PGPASSWORD=$(</secrets/admin/password) pg_restore -h 127.0.0.1 -U postgres -d suite_restored --no-owner --exit-on-error' <"$scratch/dump"
  else
    $reader "$scratch/dump" | k -n "$storage" exec -i statefulset/postgres -- bash -c 'PGPASSWORD=$(</secrets/admin/password) psql -Xq -v ON_ERROR_STOP=1 -h 127.0.0.1 -U postgres -d suite_restored'
  fi
}
holds_the_row() { same "$mark" "$(sql suite_restored "SELECT line FROM suite_restore")"; }

fact "a backup is made of a row that was just written" dumps
fact "the dump is fetched from the object store" fetches
fact "the dump is restored into an empty database" restores
fact "the restored database holds the row" holds_the_row
true
