"""A registry, an archive, a pipeline and a clock that tests hold in their hands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from driftloop.durable import format_time
from driftloop.errors import BundleError, DataError, DriftloopError, ExitCode, RegistryUnavailable
from driftloop.fleet.roles import role_of
from driftloop.fleet.runs import Run
from driftloop.loop.jobs.local import Ended, Job
from driftloop.loop.judge.standing import Standing
from driftloop.loop.waits import Now
from driftloop.model.bundle import SERVING_FILES, Example, ManifestEntry, Metadata, write_metadata
from driftloop.model.registry import Version

OLD = [f"eng-old{i}" for i in range(40)]
NEW = [f"eng-new{i}" for i in range(60)]


class Clock:
    """Time that passes when told to."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Clocks:
    """Both clocks of a machine: time passes when told to, and the wall clock may be set by itself."""

    def __init__(self) -> None:
        self.boot, self.now, self.wall = "boot-1", 5000.0, 1_800_000_000.0

    def __call__(self) -> Now:
        return Now(self.boot, self.now, format_time(datetime.fromtimestamp(self.wall + self.now, UTC)))


@dataclass
class FakeArchive:
    """Run ids alone."""

    ids: list[str] = field(default_factory=list)

    def failed_ids(self) -> list[str]:
        return sorted(self.ids)

    def total(self) -> int:
        return len(self.ids)

    def read(self, run_id: str) -> Run:
        raise DataError("there are ids alone", where=run_id)

    def roles(self) -> dict[str, str]:
        return {}


class KilledError(BaseException):
    """A `kill -9` of whoever asked; nothing after it happens."""


class FakeRegistry:
    """Versions and aliases in memory; `down` makes every call fail as MLflow's absence does."""

    model_name = "rul-lstm"

    def __init__(self) -> None:
        self.known: dict[str, Version] = {}
        self.pointers: dict[str, str] = {}
        self.down = False
        self.damaged: set[str] = set()
        self.calls_until_kill: int | None = None
        self.moves: list[tuple[str, str]] = []

    def _up(self) -> None:
        if self.calls_until_kill is not None:
            self.calls_until_kill -= 1
            if self.calls_until_kill < 0:
                raise KilledError
        if self.down:
            raise RegistryUnavailable("cannot be reached", where="MLflow", remedy="start it")

    def add(self, **tags: str) -> str:
        version = str(len(self.known) + 1)
        self.known[version] = Version(version, f"run{version}", f"mlflow-artifacts:/{version}", 0.0, dict(tags))
        return version

    def aliases(self) -> dict[str, str]:
        self._up()
        return dict(self.pointers)

    def alias(self, name: str) -> str | None:
        return self.aliases().get(name)

    def versions(self) -> list[Version]:
        self._up()
        return [self.version(version) for version in self.known]

    def version(self, version: str) -> Version:
        self._up()
        if version not in self.known:
            raise DriftloopError(f"there is no version {version}", exit_code=ExitCode.MISSING)
        aliases = tuple(alias for alias, target in self.pointers.items() if target == version)
        return replace(self.known[version], aliases=aliases)

    def tags(self, version: str) -> dict[str, str]:
        return dict(self.version(version).tags)

    def set_alias(self, name: str, version: str) -> None:
        self.version(version)
        self.pointers[name] = version
        self.moves.append((name, version))

    def delete_alias(self, name: str) -> None:
        self._up()
        self.pointers.pop(name, None)

    def set_tag(self, version: str, key: str, value: str) -> None:
        self.version(version)
        self.known[version].tags[key] = value

    def set_tags(self, version: str, tags: dict[str, str]) -> None:
        for key, value in tags.items():
            self.set_tag(version, key, value)

    def delete_version(self, version: str) -> None:
        self.version(version)
        del self.known[version]

    def fetch(self, version: str, folder: Path, files: tuple[str, ...] = SERVING_FILES) -> Path:
        assert set(files) >= set(SERVING_FILES)
        if version in self.damaged:
            raise BundleError("has another digest than when it was registered")
        self.version(version)
        folder.mkdir(parents=True, exist_ok=True)
        write_metadata(folder, metadata(OLD))
        return folder


@dataclass
class FakeEvidence:
    """What completed runs say, as a test wants it."""

    domains: dict[str, int] = field(default_factory=dict)
    """Runs that every version knows, with their domain."""
    standings: dict[tuple[str, str], bool] = field(default_factory=dict)
    """Whether the first of two versions is better than the second; what is not here is not known."""
    asked: list[str] = field(default_factory=list)

    def known(self, version: str, run_ids: Sequence[str]) -> dict[str, int]:
        self.asked.append(version)
        return {run_id: self.domains[run_id] for run_id in run_ids if run_id in self.domains}

    def compare(self, version: str, than: str, **_: bool) -> Standing | None:
        better = self.standings.get((version, than))
        return None if better is None else Standing(version, than, better, "on 9 units ...")


@dataclass
class FakeBackend:
    """A pipeline that ends when a test says so; `script` does what its steps would do."""

    jobs: list[Job] = field(default_factory=list)
    running: bool = False
    outcome: Ended | None = None
    cleared: int = 0
    script: Callable[[Job], None] | None = None
    outlives: bool = False
    """Whether a pipeline goes on without its retrainer, as a Kubernetes Job does."""
    expected: int = 0
    """How often a start was announced."""

    def prepare(self) -> None:
        pass

    def expect(self) -> None:
        self.expected += 1

    def start(self, job: Job) -> None:
        assert not self.running, "two pipelines at once"
        self.jobs.append(job)
        self.running, self.outcome = True, None
        if self.script is not None:
            self.script(job)
            self.end()

    def end(self, *, succeeded: bool = True, error: str | None = None) -> None:
        self.outcome = Ended(succeeded, error)

    def poll(self) -> Ended | None:
        if self.outcome is not None:
            self.running = False
        return self.outcome

    def stop(self) -> None:
        self.running = False

    def leave(self) -> None:
        self.running = self.outlives

    def adopt(self, run: str) -> bool:
        return self.running and bool(self.jobs) and self.jobs[-1].run == run

    def clear(self) -> None:
        self.running = False
        self.cleared += 1


def metadata(run_ids: list[str]) -> Metadata:
    """What a champion that was trained on these runs says of itself."""
    return Metadata(
        window=30,
        regimes=1,
        manifest=[ManifestEntry(run_id, "0" * 64, role_of(run_id), 0, 200) for run_id in run_ids],
        example=Example([], [], [], []),
        data_source="simulated",
        seed=0,
        training="full",
        cap=125,
    )
