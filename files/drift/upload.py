"""Copies the files of a folder to s3://BUCKET/PREFIX/TIME/ and to PREFIX/latest/: upload.py FOLDER BUCKET PREFIX."""

import mimetypes
import sys
from datetime import UTC, datetime
from pathlib import Path

import boto3


def main(folder: str, bucket: str, prefix: str) -> None:
    client = boto3.client("s3")
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for path in sorted(Path(folder).iterdir()):
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        for place in (time, "latest"):
            key = f"{prefix}/{place}/{path.name}"
            client.upload_file(str(path), bucket, key, ExtraArgs={"ContentType": kind})
            print(f"s3://{bucket}/{key}")


if __name__ == "__main__":
    main(*sys.argv[1:])
