#!/usr/bin/env bash
# Versioned data: what DVC pushes to the object store is pulled again unharmed.
# shellcheck disable=SC2016  # jq and Python in single quotes
source "$(dirname "${BASH_SOURCE[0]}")/../_lib.sh"

dvc() { (cd "$scratch/$1" && AWS_ACCESS_KEY_ID=dvc AWS_SECRET_ACCESS_KEY=$(secret "$storage" "$store"-dvc secret-key) "$repository/.venv/bin/dvc" "${@:2}"); }
project() { # NAME: a DVC project with the platform's remote
  mkdir -p "$scratch/$1" && dvc "$1" init --quiet --no-scm && dvc "$1" config core.analytics false &&
    dvc "$1" remote add --quiet --default platform "s3://$data_bucket/dvc/suite-$mark" &&
    dvc "$1" remote modify platform endpointurl "http://$s3_address"
}
reached() { [[ -n ${s3_address:-} ]] || { echo "no tunnel to the object store"; return 1; }; }
pushes() {
  reached && project one || return 1
  head -c 3000000 /dev/urandom >"$scratch/one/engines.bin"
  dvc one add --quiet engines.bin && dvc one push
}
pulls() {
  reached && project two && cp "$scratch/one/engines.bin.dvc" "$scratch/two/" && dvc two pull && cmp "$scratch/one/engines.bin" "$scratch/two/engines.bin"
}
in_bucket() { at_least 1 "$(as_s3_user dvc 'print(s3.list_objects_v2(Bucket=data_bucket, Prefix=arguments[0])["KeyCount"])' "dvc/suite-$mark/")"; }
mark=$RANDOM
always 'as_s3_user dvc "for o in s3.list_objects_v2(Bucket=data_bucket, Prefix=arguments[0]).get(\"Contents\", []): s3.delete_object(Bucket=data_bucket, Key=o[\"Key\"])" "dvc/suite-$mark/"'

if [[ ! -x $repository/.venv/bin/dvc ]]; then
  skip "DVC pushes and pulls" "driftloop's virtualenv has no dvc: make setup"
  exit 0
fi
# In this shell, not in a fact's own: the tunnel and its address are needed by all three.
if tunnel "$storage" "$store" 9000; then s3_address=$address; fi
fact "DVC pushes a file to its prefix of the store" pushes
fact "what DVC pushed lies in the bucket" in_bucket
fact "DVC pulls the file again as it was" pulls
true
