"""`python3 -m platform_backup backup | list | check NAME | restore NAME`; the settings are /config/config.json."""

import io
import json
import os
import signal
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from platform_backup import manifest as manifests
from platform_backup import parts, streams
from platform_backup.cluster import Cluster, at_rest
from platform_backup.manifest import Manifest, Part, Refused
from platform_backup.places import Bucket, Folder, Place

CONFIG = Path(os.environ.get("BACKUP_CONFIG", "/config/config.json"))
SECRETS = Path(os.environ.get("BACKUP_SECRETS", "/secrets"))
NEWEST = "newest"


def say(text: str) -> None:
    print(text, flush=True)


class Platform:
    """The platform that is backed up, as the settings describe it."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.buckets: list[str] = config["buckets"]
        self.leave_out: tuple[str, ...] = tuple(config["leave_out"]["keys"])
        self.folders: dict[str, str] = config["folders"]
        self.folders_leave_out: tuple[str, ...] = tuple(config["leave_out"]["folders"])
        self.place = self._place()

    def _place(self) -> Place:
        target = self.config["target"]
        if not target["bucket"]:
            return Folder(Path(target["folder"]))
        key = SECRETS / "target"
        client = _s3(target["endpoint"], target["region"], _text(key / "access-key"), _text(key / "secret-key"))
        return Bucket(client, target["bucket"], target["prefix"])

    def store(self) -> Any:
        """The platform's own object store, with the key of who administers it."""
        root = SECRETS / "store"
        return _s3(self.config["store"], "us-east-1", _text(root / "access-key"), _text(root / "secret-key"))

    def resting(self) -> Any:
        return at_rest(Cluster(), self.config["scaled"], self.config["suspended"])


def back_up(platform: Platform) -> None:
    """Make a backup, then forget those that are too old."""
    config, place = platform.config, platform.place
    name = f"driftloop-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    recipient = config["recipient"]
    figures = _champion(config)
    objects: dict[str, int] = {}
    made: list[Part] = []
    store = platform.store()
    began = time.monotonic()
    with platform.resting():
        say(f"at rest after {time.monotonic() - began:.0f} s")
        for database in config["databases"]:
            made.append(streams.keep(place, name, "database", database, recipient, parts.dump(database)))
        for folder, path in platform.folders.items():
            packed = parts.pack_folder(Path(path), platform.folders_leave_out)
            made.append(streams.keep(place, name, "folder", folder, recipient, packed))
        for bucket in platform.buckets:
            packed = parts.pack_bucket(store, bucket, platform.leave_out, lambda n, b=bucket: objects.update({b: n}))
            made.append(streams.keep(place, name, "bucket", bucket, recipient, packed))
    say(f"awake again after {time.monotonic() - began:.0f} s")
    made.append(streams.keep(place, name, "secrets", "all", recipient, parts.pack_files(SECRETS / "platform")))
    whole = Manifest(
        config["version"], f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", tuple(made), {**figures, "objects": objects}
    )
    place.put(name, manifests.NAME, io.BytesIO(manifests.write(whole).encode()))
    for part in made:
        say(f"{part.name}: {part.size} bytes")
    forget(place, int(config["keep"]))
    say(f"backup {name}")


def forget(place: Place, keep: int) -> list[str]:
    """Remove all but the newest `keep` backups, and what was begun before the oldest of them; returns their names."""
    names = place.names()
    whole = [name for name in names if place.has(name, manifests.NAME)]
    kept = whole[-keep:]
    gone = [name for name in names if name not in kept and kept and name < kept[-1]]
    for name in gone:
        place.remove(name)
        say(f"forgot {name}")
    return gone


def find(place: Place, name: str) -> str:
    """The backup that is meant; Refused where there is none."""
    whole = [each for each in place.names() if place.has(each, manifests.NAME)]
    if name == NEWEST and whole:
        return whole[-1]
    if name not in whole:
        half = " (it was never finished: it has no manifest)" if name in place.names() else ""
        raise Refused(f"there is no backup {name}{half}; there are: {', '.join(whole) or 'none'}")
    return name


def check(platform: Platform, name: str) -> tuple[str, Manifest]:
    """The manifest of a backup that is whole and may be restored here; Refused with the reason otherwise."""
    place = platform.place
    name = find(place, name)
    found = manifests.read(place.get(name, manifests.NAME).read().decode(), f"{name}/{manifests.NAME}")
    manifests.refuse_newer(found, platform.config["version"], name)
    known = {
        "database": set(platform.config["databases"]),
        "bucket": set(platform.buckets),
        "folder": set(platform.folders),
        "secrets": {"all"},
    }
    for part in found.parts:
        if part.of not in known.get(part.kind, set()):
            raise Refused(f"{name} has a {part.kind} {part.of!r} that this platform does not have")
    for part in found.parts:
        streams.check(place, name, part)
    say(f"{name} of version {found.version}, {found.created}: {len(found.parts)} parts are whole")
    return name, found


def restore(platform: Platform, wanted: str) -> None:
    """Check a backup, then make the platform what it was."""
    identity = str(SECRETS / "identity" / "key")
    name, found = check(platform, wanted)
    for part in found.parts:
        streams.opens(platform.place, name, part, identity)
    say("the key opens every part; now what is there is replaced")
    store = platform.store()
    with platform.resting():
        for part in found.parts:
            if part.kind == "secrets":
                continue
            with streams.opened(platform.place, name, part, identity) as content:
                if part.kind == "database":
                    parts.load(part.of, content)
                elif part.kind == "folder":
                    parts.unpack_folder(Path(platform.folders[part.of]), platform.folders_leave_out, content)
                else:
                    parts.unpack_bucket(store, part.of, platform.leave_out, content)
            say(f"restored the {part.kind} {part.of}")
    say(f"restored {name}")
    say("FIGURES " + json.dumps(found.figures, sort_keys=True))


def _champion(config: dict[str, Any]) -> dict[str, Any]:
    """What the registry calls production, before anybody rests; nothing where there is none yet."""
    url = f"{config['mlflow']}/api/2.0/mlflow/registered-models/alias?name={config['model']}&alias=production"
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            version = json.load(answer)["model_version"]
    except (OSError, ValueError, KeyError):
        return {"champion": None}
    return {"champion": version["version"], "run": version.get("run_id")}


def _s3(endpoint: str, region: str, access: str, secret: str) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint or None,
        region_name=region,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def main(arguments: list[str]) -> int:
    # A pod that is ended wakes everybody first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        config = json.loads(CONFIG.read_text(encoding="utf-8"))
        _let_into_postgres(config)
        platform = Platform(config)
        match arguments:
            case ["backup"]:
                back_up(platform)
            case ["list"]:
                for name in platform.place.names():
                    say(name if platform.place.has(name, manifests.NAME) else f"{name} (never finished)")
            case ["check", name]:
                check(platform, name)
            case ["restore", name]:
                restore(platform, name)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except Refused as error:
        print(f"refused: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _let_into_postgres(config: dict[str, Any]) -> None:
    """The administrator's password in a file: a command line or the environment can be read by others."""
    path = Path(os.environ.get("TMPDIR", "/tmp")) / "pgpass"
    password = SECRETS / "postgres" / "password"
    if password.exists():
        path.write_text(f"*:*:*:postgres:{_text(password)}\n", encoding="utf-8")
        path.chmod(0o600)
        host, _, port = config["postgres"].partition(":")
        os.environ.update(PGHOST=host, PGPORT=port or "5432", PGUSER="postgres", PGPASSFILE=str(path))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
