"""The supervisor with small stand-ins for the components: starts, restarts, clear errors, nothing left behind."""

import contextlib
import errno
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driftloop import settings
from driftloop.embedded import guard
from driftloop.embedded import supervisor as supervising
from driftloop.embedded.processes import Component, rotate
from driftloop.embedded.supervisor import (
    LOCK,
    LOGS,
    STATUS,
    Supervisor,
    check_packages,
    check_ports,
    check_space,
    lock,
    make_token,
    pause_after,
    unusable,
)
from driftloop.errors import DriftloopError
from driftloop.memory import memory_bytes, processor_s

SLEEPER = [sys.executable, "-c", "import time; print('hello', flush=True); time.sleep(600)"]
WITH_CHILD = [
    sys.executable,
    "-c",
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
    " start_new_session=True); print('ready', flush=True); time.sleep(600)",
]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)",
]


def wait(condition: Callable[[], object], what: str = "the condition", limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {limit_s} s"
        time.sleep(0.02)


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[settings.Settings]:
    yield settings.load(state_dir=tmp_path / "state")
    guard.end_marked(str((tmp_path / "state").resolve()), grace_s=0)


def said(configured: settings.Settings, name: str, text: str) -> Callable[[float], bool]:
    log = configured.state_dir / LOGS / f"{name}.log"
    return lambda _: log.exists() and text in log.read_text()


def a_component(configured: settings.Settings, command: list[str], name: str = "one", text: str = "hello") -> Component:
    return Component(name, command, said(configured, name, text))


def test_components_are_started_and_nothing_is_left_behind(configured: settings.Settings) -> None:
    mark = str(configured.state_dir.resolve())
    with Supervisor(configured.state_dir, [a_component(configured, WITH_CHILD, text="ready")]) as supervisor:
        wait(lambda: supervisor.tick() or supervisor.ready, "readiness")
        wait(lambda: len(guard.marked_processes(mark)) == 2, "the grandchild in a session of its own")
        written = json.loads((configured.state_dir / STATUS).read_text())
        assert written["pid"] == os.getpid()
        assert written["components"]["one"]["state"] == "ready"
        assert supervisor.memory()["one"] > 0
    assert guard.marked_processes(mark) == []
    assert not (configured.state_dir / STATUS).exists()


def test_a_component_that_ignores_the_request_to_end_is_ended_by_force(
    configured: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driftloop.embedded.supervisor.STOP_S", 0.2)
    with Supervisor(configured.state_dir, [a_component(configured, STUBBORN, text="ready")]) as supervisor:
        wait(lambda: supervisor.tick() or supervisor.ready, "readiness")
    assert guard.marked_processes(str(configured.state_dir.resolve())) == []


def test_what_dies_is_started_again(configured: settings.Settings) -> None:
    with Supervisor(configured.state_dir, [a_component(configured, SLEEPER)]) as supervisor:
        slot = supervisor.slots[0]
        wait(lambda: supervisor.tick() or supervisor.ready, "readiness")
        assert slot.process is not None
        first = slot.process.pid
        os.kill(first, signal.SIGKILL)
        wait(lambda: supervisor.tick() or slot.state == "down", "the death to be noticed")
        wait(lambda: supervisor.tick() or supervisor.ready, "the restart")
        assert slot.process.pid != first
        assert (slot.restarts, slot.last_exit) == (1, -signal.SIGKILL)


def test_pauses_between_restarts_grow_up_to_half_a_minute() -> None:
    assert [pause_after(failures) for failures in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_component_that_keeps_dying_counts_its_failures(configured: settings.Settings) -> None:
    with Supervisor(configured.state_dir, [a_component(configured, SLEEPER)]) as supervisor:
        slot = supervisor.slots[0]
        slot.was_ready = True
        for failures in range(1, 4):
            assert slot.process is not None
            os.kill(slot.process.pid, signal.SIGKILL)
            wait(lambda: supervisor.tick() or slot.process is None, "the death to be noticed")
            assert slot.failures == failures
            slot.retry_at = 0
            supervisor.tick()


def test_a_component_that_never_starts_is_given_up_with_the_end_of_its_log(configured: settings.Settings) -> None:
    broken = [sys.executable, "-c", "raise SystemExit('the database is from the future')"]
    supervisor = Supervisor(
        configured.state_dir, [a_component(configured, SLEEPER, "good"), a_component(configured, broken)]
    )
    with supervisor, pytest.raises(DriftloopError, match=r"(?s)one: ended 3 times.*the database is from the future"):
        supervisor.run(lambda _: None)
    assert guard.marked_processes(str(configured.state_dir.resolve())) == []


def test_a_component_that_is_never_ready_is_named(configured: settings.Settings) -> None:
    never = Component("one", SLEEPER, lambda _: False)
    with (
        Supervisor(configured.state_dir, [never]) as supervisor,
        pytest.raises(DriftloopError, match=r"one: is not ready after \d+ s"),
    ):
        supervisor.run(lambda _: None, ready_s=0)


@pytest.mark.parametrize(("a_look", "patient"), [(1.0, True), (0.0, False)])
def test_a_component_that_works_at_its_start_is_waited_for_and_one_that_idles_is_not(
    configured: settings.Settings, monkeypatch: pytest.MonkeyPatch, a_look: float, patient: bool
) -> None:
    looks = itertools.count(1)
    monkeypatch.setattr(supervising, "processor_s", lambda _: a_look * next(looks))
    late = Component("one", SLEEPER, lambda _: next(looks) > 12)
    with Supervisor(configured.state_dir, [late]) as supervisor:
        given_up = pytest.raises(DriftloopError, match="one: is not ready after")
        with contextlib.nullcontext() if patient else given_up:
            supervisor.run(lambda one: one.request_stop() if one.ready else None, ready_s=0.01)
        assert supervisor.ready is patient


def test_a_component_that_works_for_ever_is_given_up(
    configured: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = itertools.count(1)
    monkeypatch.setattr(supervising, "processor_s", lambda _: 1.0 * next(looks))
    with (
        Supervisor(configured.state_dir, [Component("one", SLEEPER, lambda _: False)]) as supervisor,
        pytest.raises(DriftloopError, match="one: is not ready after"),
    ):
        supervisor.run(lambda _: None, ready_s=0.01, longest_s=0.5)


def test_processor_time_is_that_of_a_process_and_its_children() -> None:
    busy = "import time\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True)\ntime.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        of_child = processor_s(child.pid)
        assert of_child >= 0.15  # the kernel counts in hundredths of a second
        assert processor_s(os.getpid()) >= of_child
        child.kill()
    assert processor_s(child.pid) == 0


def test_a_signal_stops_everything(configured: settings.Settings) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Supervisor(configured.state_dir, [a_component(configured, SLEEPER)]) as supervisor:
        supervisor.run(lambda one: os.kill(os.getpid(), signal.SIGTERM) if one.ready else None)
    assert guard.marked_processes(str(configured.state_dir.resolve())) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_killed_supervisor_leaves_no_orphans(configured: settings.Settings) -> None:
    mark = str(configured.state_dir.resolve())
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from driftloop.embedded.processes import Component\n"
        "from driftloop.embedded.supervisor import Supervisor\n"
        f"one = Component('one', {WITH_CHILD!r}, lambda _: True)\n"
        f"with Supervisor(Path({mark!r}), [one]) as s:\n"
        "    s.run(lambda _: None)\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", program])
    try:
        wait(lambda: len(guard.marked_processes(mark)) == 2, "both processes")
    finally:
        supervisor.kill()
        supervisor.wait()
    wait(lambda: guard.marked_processes(mark) == [], "the end of the orphans")


def test_a_second_supervisor_is_refused_and_told_who_has_the_folder(configured: settings.Settings) -> None:
    with (
        Supervisor(configured.state_dir, []),
        pytest.raises(DriftloopError, match=rf"process {os.getpid()}\).*DRIFTLOOP_STATE_DIR"),
    ):
        lock(configured.state_dir)
    lock(configured.state_dir).close()


def test_a_stale_lock_locks_nobody_out(configured: settings.Settings) -> None:
    configured.state_dir.mkdir()
    (configured.state_dir / LOCK).write_text("1\n")
    with Supervisor(configured.state_dir, []):
        assert (configured.state_dir / LOCK).read_text() == f"{os.getpid()}\n"


def test_what_an_earlier_supervisor_left_is_ended_first(configured: settings.Settings) -> None:
    mark = str(configured.state_dir.resolve())
    left = subprocess.Popen(SLEEPER, env={**os.environ, guard.MARK: mark}, stdout=subprocess.DEVNULL)
    threading.Thread(target=left.wait, daemon=True).start()
    with Supervisor(configured.state_dir, []):
        assert guard.marked_processes(mark) == []
    assert left.wait() == -signal.SIGTERM


def test_a_port_in_use_is_named_with_its_setting() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        taken = Component("server", [], lambda _: True, f"http://127.0.0.1:{port}")
        with pytest.raises(DriftloopError, match=rf"{port} \(server; DRIFTLOOP_SERVER_URL\)"):
            check_ports([taken])
    check_ports([taken])


def test_a_missing_package_is_named_with_what_it_is_for() -> None:
    with pytest.raises(DriftloopError, match=r"no_such_thing \(magic\).*make setup"):
        check_packages({"json": "text", "no_such_thing": "magic"})


def test_a_full_disk_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(DriftloopError, match=r"MiB left.*free some space"):
        check_space(tmp_path, needed=2**60)
    assert "free some space" in str(unusable(tmp_path, OSError(errno.ENOSPC, "No space left on device")))


def test_a_disk_that_fills_up_ends_nothing(configured: settings.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Supervisor(configured.state_dir, [a_component(configured, SLEEPER)]) as supervisor:
        with monkeypatch.context() as full:
            full.setattr("driftloop.durable.write_json", no_space)
            wait(lambda: supervisor.tick() or supervisor.ready, "readiness")
        supervisor.tick()
        assert json.loads((configured.state_dir / STATUS).read_text())["ready"] is True


def test_a_platform_that_cannot_write_its_status_is_not_started(
    configured: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("driftloop.durable.write_json", no_space)
    with pytest.raises(DriftloopError, match="free some space"), Supervisor(configured.state_dir, []):
        pass
    assert guard.marked_processes(str(configured.state_dir.resolve())) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for use in (check_space, lock):
        with pytest.raises(DriftloopError, match=r"file.*cannot be used.*DRIFTLOOP_STATE_DIR"):
            use(tmp_path / "file" / "state")


def test_the_token_is_made_once_and_its_owner_alone_can_read_it(tmp_path: Path) -> None:
    token = make_token(tmp_path)
    content = token.read_text()
    assert token.stat().st_mode & 0o777 == 0o600
    assert make_token(tmp_path).read_text() == content
    assert settings.load(token_file=token).token == content.strip()


def test_a_log_beyond_its_limit_is_moved_aside_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"a" * 100)
        rotate(log, limit=100)
        assert log.stat().st_size == 100
        writer.write(b"b")
        rotate(log, limit=100)
        writer.write(b"c")
    assert log.read_bytes() == b"c"
    assert (tmp_path / "one.1.log").read_bytes() == b"a" * 99 + b"b"
    rotate(tmp_path / "none.log")


def test_memory_counts_children_and_is_zero_for_nobody() -> None:
    child = subprocess.Popen(SLEEPER, stdout=subprocess.DEVNULL)
    try:
        assert memory_bytes(os.getpid()) > memory_bytes(child.pid) > 0
    finally:
        child.kill()
        child.wait()
    assert memory_bytes(child.pid) == 0
