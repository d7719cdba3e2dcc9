"""All checks, in the order in which a person would look: the machine, then its folder, then what runs."""

import functools
from collections.abc import Iterable, Iterator, Mapping

from driftloop import places, settings
from driftloop.embedded import fleets
from driftloop.embedded.components import LOOPBACK
from driftloop.embedded.doctor import clocks, credentials, databases, folder, machine, models, ports, processes, runs
from driftloop.embedded.doctor.findings import Finding, of_error, safely, warning
from driftloop.embedded.supervisor import FREE_BYTES
from driftloop.errors import DriftloopError
from driftloop.loop.store import NAME as LOOP_STORE
from driftloop.settings import Settings

COMFORTABLE_DISK = 4 * FREE_BYTES
_WRITTEN = ("platform.json", "loop/loop.db", "units/units.db", "mlflow/mlflow.db")


def examine() -> Iterator[Finding]:
    """Everything that can be looked at from here; what cannot be known without the settings waits for them."""
    for check, look in (
        ("python", machine.python),
        ("packages", machine.packages),
        ("memory", machine.memory),
        ("locale", machine.language),
    ):
        yield from safely(check, look)
    try:
        base = settings.from_environment()
    except DriftloopError as error:
        yield of_error("settings", error)
        return
    yield from safely("settings", machine.variables)
    yield from _of_machine(base)
    try:
        running = _running(base)
    except DriftloopError as error:
        yield of_error("fleet", error)
        return
    yield from _of_platform(base, running)


def _of_machine(base: Settings) -> Iterator[Finding]:
    state = base.state_dir
    yield from safely(
        "disk", lambda: machine.disk(state, least=FREE_BYTES, comfortable=COMFORTABLE_DISK, what_for="state")
    )
    yield from safely("state", lambda: folder.owner(state))
    if state.is_dir():
        yield from safely("locks", lambda: folder.leftovers(state))
        yield from safely("clock", lambda: clocks.of_the_disk(state))
        yield from safely("clock", lambda: clocks.of_files(state, _WRITTEN))
    for look in (credentials.modes, credentials.tokens, credentials.certificates):
        yield from safely("credentials", functools.partial(look, base))


def _of_platform(base: Settings, running: Mapping[str, Settings]) -> Iterator[Finding]:
    named = ports.addresses(base, running)
    yield from safely("proxies", lambda: machine.proxies(list(named.values())))
    embedded = base.state_dir.is_dir() and folder.supervisor(base.state_dir) is not None
    away = [] if embedded else list(safely("processes", lambda: processes.elsewhere(running)))
    is_up = embedded or any(finding.level == "fine" for finding in away)
    if embedded:
        yield from safely("processes", lambda: processes.embedded(base.state_dir, running))
    elif is_up:
        yield from away
    else:
        # Who listens at an address of this machine and is no part of a platform, the check of ports tells.
        yield from (finding for finding in away if not any(host in finding.where for host in LOOPBACK))
        yield warning("processes", "no platform runs here", str(base.state_dir), "driftloop up")
    if embedded or not is_up:
        yield from safely("ports", lambda: ports.taken(named, base.state_dir))
    yield from safely("databases", lambda: databases.sqlite(base.state_dir / "mlflow" / "mlflow.db"))
    if is_up:
        yield from safely("clock", lambda: clocks.of_services(list(named.values())))
    for one in running.values():
        yield from _of_fleet(one, is_up)


def _of_fleet(one: Settings, is_up: bool) -> Iterable[Finding]:
    yield from safely("databases", lambda: databases.sqlite(one.state_dir / "loop" / LOOP_STORE))
    yield from safely("databases", lambda: databases.loop(one.state_dir))
    yield from safely("databases", lambda: databases.units(one))
    yield from safely("archive", lambda: runs.archive(one))
    if is_up:
        yield from safely("registry", lambda: models.production(one))


def _running(base: Settings) -> dict[str, Settings]:
    """The settings of each fleet that is or would be started; raises DriftloopError for a fleet file that is wrong."""
    known = places.read(base.state_dir)
    found = {base.schema.name: base} if known is None else fleets.running(base, known)
    for one in found.values():
        _ = one.schema
    return found
