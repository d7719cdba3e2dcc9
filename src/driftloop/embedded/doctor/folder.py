"""The state folder: whose it is, whether it can be written, and what an earlier platform left in it."""

import fcntl
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from driftloop import durable
from driftloop.embedded import guard
from driftloop.embedded.doctor.findings import Finding, fine, problem, warning
from driftloop.embedded.supervisor import LOCK, STATUS
from driftloop.errors import JsonError

_ELSEWHERE = "or choose another folder with DRIFTLOOP_STATE_DIR"


def owner(folder: Path) -> Iterator[Finding]:
    """Whether all in the state folder is this user's, and can be written."""
    if not folder.exists():
        yield fine("state", "there is no state folder yet; `driftloop up` makes it", str(folder))
        return
    if not folder.is_dir():
        yield problem("state", "is no folder", str(folder), f"move it away, {_ELSEWHERE}")
        return
    me, strangers = os.geteuid(), []
    for path in (folder, *sorted(folder.iterdir())):
        if (path.lstat().st_uid != me and me != 0) or (me == 0 and path.lstat().st_uid != folder.lstat().st_uid):
            strangers.append(path)
    for path in strangers[:5]:
        what = f"belongs to {_user(path.lstat().st_uid)}, not to {_user(folder.lstat().st_uid if me == 0 else me)}"
        yield problem("state", what, str(path), f"sudo chown -R {_user(me)} {folder}, {_ELSEWHERE}")
    if not os.access(folder, os.W_OK | os.X_OK):
        yield problem("state", "cannot be written", str(folder), f"chmod u+rwx {folder}, {_ELSEWHERE}")
    elif not strangers:
        yield fine("state", "belongs to this user and can be written", str(folder))


def supervisor(folder: Path) -> int | None:
    """The process of the running `driftloop up`; None where none holds the folder's lock."""
    if not held(folder / LOCK):
        return None
    try:
        return int(durable.read_json(folder / STATUS, dict[str, Any])["pid"])
    except (FileNotFoundError, JsonError, KeyError, ValueError, TypeError):
        return 0


def held(path: Path) -> bool:
    """Whether some process holds the lock of this file."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def leftovers(folder: Path) -> Iterator[Finding]:
    """What a platform that was killed left behind: processes, and files that say that it runs."""
    if supervisor(folder) is not None:
        yield fine("locks", "a running `driftloop up` holds the state folder", str(folder / LOCK))
        return
    orphans = guard.marked_processes(str(folder.resolve()))
    if orphans:
        pids = " ".join(map(str, orphans))
        what = f"processes of a platform that is gone still run: {pids}"
        yield problem("locks", what, str(folder), f"kill {pids}; `driftloop up` does that too")
    if (folder / STATUS).exists():
        what = "says that a platform runs, and none does: it was killed"
        yield warning("locks", what, str(folder / STATUS), "start it again with `driftloop up`, or delete this file")
    elif not orphans:
        yield fine("locks", "nobody holds the state folder, and nothing was left in it", str(folder))


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
