"""The archive: whether every run can be read, and has the checksum it was written with."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from driftloop.embedded.doctor.findings import Finding, fine, problem, warning
from driftloop.errors import DataError
from driftloop.fleet import roles
from driftloop.fleet.archive import open_archive
from driftloop.settings import Settings

SHOWN = 10
"""Damaged runs that are named one by one."""


def archive(settings: Settings) -> Iterator[Finding]:
    """Every run of the fleet's archive, read as a training would."""
    where = settings.archive_location
    found = open_archive(where, settings.schema)
    ids = found.run_ids()

    def look(run_id: str) -> str:
        try:
            found.read(run_id)
        except DataError as error:
            return error.what
        return ""

    with ThreadPoolExecutor(max_workers=8) as pool:
        bad = [(run_id, said) for run_id, said in zip(ids, pool.map(look, ids), strict=True) if said]
    for run_id, said in bad[:SHOWN]:
        remedy = f"restore it from a backup, or driftloop archive withdraw {run_id}"
        yield problem("archive", f"run {run_id} {said}", where, remedy)
    if len(bad) > SHOWN:
        remedy = "restore the archive from a backup (docs/backup.md)"
        yield problem("archive", f"{len(bad) - SHOWN} more runs cannot be read", where, remedy)
    yield fine("archive", f"{len(ids) - len(bad)} of {len(ids)} runs can be read, and their checksums agree", where)
    counts = roles.count(found.roles_of(ids))
    short = {role: least for role, least in settings.schema.least.items() if counts[role] < least}
    if ids and short:
        said = ", ".join(f"{counts[role]} {role} ({least} are needed)" for role, least in short.items())
        yield warning("archive", f"too few units for a training: {said}", where, "driftloop archive add FILE")
