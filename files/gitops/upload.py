"""Makes a bucket hold the files of an archive and nothing else, keeping every version: upload.py ARCHIVE BUCKET."""

import hashlib
import sys
import tarfile

import boto3


def main(archive: str, bucket: str) -> None:
    client = boto3.client("s3")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    there = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        there |= {each["Key"]: each["ETag"].strip('"') for each in page.get("Contents", [])}
    with tarfile.open(archive) as tar:
        for member in tar:
            if not member.isfile():
                continue
            content = tar.extractfile(member).read()
            # Of an object of one part the tag is the digest; of any other it differs, and it is written once more.
            if there.pop(member.name, "") != hashlib.md5(content, usedforsecurity=False).hexdigest():
                client.put_object(Bucket=bucket, Key=member.name, Body=content)
                print(f"wrote {member.name}")
    for key in there:
        client.delete_object(Bucket=bucket, Key=key)
        print(f"removed {key}")


if __name__ == "__main__":
    main(*sys.argv[1:])
