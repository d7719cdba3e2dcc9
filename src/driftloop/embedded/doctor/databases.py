"""Databases: whether they are sound, and of the version that this driftloop knows."""

import contextlib
import importlib.util
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from driftloop.embedded.doctor.findings import Finding, fine, problem, warning
from driftloop.loop import store
from driftloop.settings import Settings

_RESTORE = "stop the platform, and restore this file from a backup (docs/backup.md)"
_BUSY_S = 5.0


def sqlite(path: Path) -> Iterator[Finding]:
    """Whether a database of SQLite is sound; nothing for one that is not there."""
    if not path.exists():
        return
    try:
        with contextlib.closing(_open(path)) as db:
            [said] = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        said = str(error)
    if said == "ok":
        yield fine("databases", "is sound", str(path))
    else:
        yield problem("databases", f"is damaged or cannot be read: {said}", str(path), _RESTORE)


def loop(state_dir: Path) -> Iterator[Finding]:
    """The retrainer's store."""
    path = state_dir / "loop" / store.NAME
    if not path.exists():
        return
    try:
        with contextlib.closing(_open(path)) as db:
            [version] = db.execute("PRAGMA user_version").fetchone()
            [application] = db.execute("PRAGMA application_id").fetchone()
    except sqlite3.Error:
        return  # `sqlite` has told of it.
    if application != store.APPLICATION:
        what = "is not the store of a retrainer"
        yield problem("databases", what, str(path), "move it away, or set DRIFTLOOP_STATE_DIR")
    elif version > store.SCHEMA:
        what = f"was written by a newer driftloop (schema {version}, this one knows {store.SCHEMA})"
        yield problem("databases", what, str(path), "run that version again, or restore the backup from before it")
    elif version < store.SCHEMA:
        what = f"has schema {version}, and {store.SCHEMA} comes with the next start of the retrainer"
        yield warning("databases", what, str(path), "back it up, then restart the retrainer (docs/upgrade.md)")


def units(settings: Settings) -> Iterator[Finding]:
    """The migrations of the store of units, which may be on PostgreSQL."""
    if any(importlib.util.find_spec(package) is None for package in ("sqlalchemy", "alembic")):
        return
    import sqlalchemy as sa
    from sqlalchemy.exc import SQLAlchemyError

    from driftloop.units.store import address, newest_migration

    url = address(settings)
    where = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        if not path.exists():
            return
        yield from sqlite(path)
        url = sa.URL.create("sqlite", database=f"{path.as_uri()}?mode=ro", query={"uri": "true"})
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).strip()
        yield problem("databases", f"cannot be asked: {said}", where, "is it up, and are address and password right?")
        return
    finally:
        engine.dispose()
    newest = newest_migration()
    if found == newest:
        yield fine("databases", f"has the newest migration ({newest})", where)
    elif found is None or str(found) < newest:
        what = f"has migration {found}, and {newest} comes with the next start of units"
        yield warning("databases", what, where, "back it up, then restart units (docs/upgrade.md)")
    else:
        what = f"has migration {found}, which this driftloop does not know (it knows {newest})"
        yield problem("databases", what, where, "run the version that wrote it again, or restore the backup")


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
