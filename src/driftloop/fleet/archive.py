"""The archive: completed runs-to-failure, kept for good in a folder or an S3 bucket; what retraining learns from.

Each run is one object, `<run id>.npy` (`driftloop.fleet.objects`). Beside the runs there are numbered records,
`roles-000001.json` with the roles that were dealt, `withdrawn-000001.json` with runs that are not to be learnt from,
and `fleet-000001.json` with the fleet's schema, which says how a fleet that does not belong here differs.
Objects are written once and never changed or deleted, so any number of writers and readers may share an archive.

Rows that are archived already are the same run, whatever id they come under. Two writers that bring the same rows
under two ids at once both find out afterwards; of such twins the first by name stays, and the others are withdrawn.
"""

import contextlib
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from driftloop import durable
from driftloop.errors import DataError, ExitCode, FleetError, JsonError
from driftloop.fleet import roles
from driftloop.fleet.objects import (
    FIRST_FLEET,
    LABEL_BYTES,
    Label,
    check_fleet,
    check_run,
    decode,
    encode,
    is_run_id,
    label_of,
    read_label,
)
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema, from_json
from driftloop.fleet.stores import Store, open_store

_SUFFIX = ".npy"


class RunConflict(DataError):
    """A run whose id is in the archive already, with other rows, or whose rows were withdrawn."""

    exit_code = ExitCode.REFUSED


class Kept(NamedTuple):
    """What became of a run: the id under which its rows are archived, and whether that is new."""

    run_id: str
    is_new: bool


class Withdrawal(msgspec.Struct, frozen=True):
    """One record of runs that are never learnt from again."""

    time: str
    reason: str
    runs: list[str]


class Archive:
    """Append-only set of completed runs of one fleet; `open_archive` makes one."""

    def __init__(self, store: Store, schema: Schema) -> None:
        self._store, self.schema = store, schema
        self._lock = threading.RLock()
        # What was read of objects that never change.
        self._labels: dict[str, Label | None] = {}
        self._roles: dict[str, str] = {}
        self._withdrawn: dict[str, Withdrawal] = {}
        self._fleets: dict[str, Schema] = {}
        self._records: set[str] = set()

    # Adding.

    def add(self, run: Run) -> bool:
        """Archive one run: True if it is new, False if its rows were there already.

        When this returns, the run is on disk. Raises DataError for a run that `check_run` refuses and RunConflict
        for an id that is taken by other rows.
        """
        return self.add_all([run])[0]

    def add_all(self, runs: Sequence[Run]) -> list[bool]:
        """Archive many runs as `add` does; no run is stored unless every one of them may be."""
        return [kept.is_new for kept in self.keep(runs)]

    def keep(self, runs: Sequence[Run]) -> list[Kept]:
        """Archive many runs as `add_all` does, and say under which id the rows of each are archived."""
        for run in runs:
            check_run(run, self.schema)
        with self._lock:
            labels = self._read_labels()
            under = self._by_rows(labels)
            fresh: dict[str, Run] = {}
            answers: list[Kept] = []
            for run in runs:
                if run.run_id in fresh or run.run_id in labels:
                    _check_same(run, fresh.get(run.run_id) or self._read(run.run_id), given_twice=run.run_id in fresh)
                    gone = run.run_id in self._withdrawn
                    answers.append(Kept(under.get(run.sha256, run.run_id) if gone else run.run_id, False))
                elif run.sha256 in under:
                    same = under[run.sha256]
                    _check_same(run, fresh.get(same) or self._read(same))
                    answers.append(Kept(same, False))
                else:
                    fresh[run.run_id] = run
                    under[run.sha256] = run.run_id
                    answers.append(Kept(run.run_id, True))
            for answer in answers:
                self._refuse_withdrawn(answer.run_id)
            objects = [(run_id + _SUFFIX, encode(run, self.schema)) for run_id, run in fresh.items()]
            if fresh:
                self._describe_fleet()
            stored = dict(zip(fresh, self._store.put_new(objects), strict=True))
            for run_id, is_new in stored.items():
                if is_new:
                    self._labels[run_id] = label_of(fresh[run_id], self.schema)
                else:  # another writer was faster
                    _check_same(fresh[run_id], self._read(run_id))
            stays = self._settle_twins(fresh) if fresh else {}
        return [
            Kept(stays.get(kept.run_id, kept.run_id), kept.is_new and stored[kept.run_id] and kept.run_id not in stays)
            for kept in answers
        ]

    def archived_as(self, sha256: Iterable[str]) -> dict[str, str]:
        """The ids under which rows with these sums are archived; what is not archived is left out."""
        with self._lock:
            under = self._by_rows(self._read_labels())
        return {rows: under[rows] for rows in sha256 if rows in under}

    # Reading.

    def run_ids(self) -> list[str]:
        """The ids of all archived runs but the withdrawn ones, sorted."""
        names = self._look()
        return [run_id for run_id in _runs(names) if run_id not in self._withdrawn]

    def failed_ids(self) -> list[str]:
        """The ids of all archived runs that have labels: neither withdrawn nor censored; sorted."""
        with self._lock:
            labels = self._read_labels()
            censored = {run_id for run_id, label in labels.items() if label is not None and label.censored}
            return [run_id for run_id in sorted(labels) if run_id not in censored and run_id not in self._withdrawn]

    def total(self) -> int:
        """How many runs were ever archived, withdrawn ones among them: a number that only grows."""
        return len(_runs(self._store.names()))

    def read(self, run_id: str) -> Run:
        """One run, also a withdrawn one; raises DataError where it is missing, damaged or another fleet's."""
        self._look()
        return self._read(run_id)

    def read_all(self, ids: Iterable[str] | None = None) -> list[Run]:
        """The runs with `ids`, in their order, by default all of `run_ids`; raises DataError as `read` does."""
        known = self.run_ids()
        wanted = known if ids is None else list(ids)
        with ThreadPoolExecutor(max_workers=8) as pool:
            return list(pool.map(self._read, wanted))

    # Roles.

    def roles(self) -> dict[str, str]:
        """The roles that were dealt; for any other run its id decides (`roles.role_of`)."""
        self._look()
        return dict(self._roles)

    def roles_of(self, run_ids: Iterable[str]) -> dict[str, str]:
        """The role of each run: the one that was dealt, or else the hash's."""
        dealt = self.roles()
        return {run_id: roles.dealt_role(run_id, dealt) or roles.role_of(run_id) for run_id in run_ids}

    def deal(
        self,
        run_ids: Collection[str],
        *,
        known: Mapping[str, str] | None = None,
        least: Mapping[str, int] | None = None,
        always: bool = False,
    ) -> dict[str, str]:
        """The role of each of `run_ids`, dealt where the hash gives too few units to one (`roles.deal`).

        What was dealt is written down, so that everybody reads it from here and it never changes; of two writers at
        once the first one's roles hold. `known` are roles that models were trained with, `least` the numbers that are
        needed, by default the fleet's. With `always` the roles are written down also where the hash does.
        """
        needed = self.schema.least if least is None else least
        while True:
            names = self._look()
            fixed = {**(known or {}), **self._roles}
            dealt = roles.deal(run_ids, needed, fixed)
            new = {run_id: role for run_id, role in dealt.items() if run_id not in fixed}
            if not new or not (always or any(role != roles.role_of(run_id) for run_id, role in new.items())):
                return dealt
            if self._put_record("roles", names, new):
                return dealt

    def adopt(self, dealt: Mapping[str, str]) -> None:
        """Write down roles that were dealt elsewhere; of one that is written down already that holds."""
        while True:
            names = self._look()
            new = {run_id: role for run_id, role in dealt.items() if run_id not in self._roles}
            if not new or self._put_record("roles", names, new):
                return

    # Taking back.

    def withdraw(self, run_ids: Collection[str], reason: str) -> list[str]:
        """Write down that these runs are never to be learnt from again; returns those for which that is new.

        Raises DataError naming a run that is not archived; nothing is written then.
        """
        while True:
            names = self._look()
            unknown = sorted(set(run_ids) - set(_runs(names)))
            if unknown:
                raise self._missing(unknown[0] + _SUFFIX)
            new = sorted(set(run_ids) - self._withdrawn.keys())
            if not new:
                return []
            record = Withdrawal(durable.now(), reason, new)
            if self._put_record("withdrawn", names, msgspec.to_builtins(record)):
                return new

    def withdrawn(self) -> dict[str, Withdrawal]:
        """The withdrawn runs, each with the record that says so."""
        self._look()
        return dict(self._withdrawn)

    # Parts.

    def _look(self) -> list[str]:
        """The names of all objects, after records that are new were read."""
        names = self._store.names()
        with self._lock:
            for name in names:
                if name not in self._records and name.endswith(".json"):
                    self._read_record(name)
        return names

    def _read_record(self, name: str) -> None:
        kind, content = name.partition("-")[0], self._store.get(name) or b""
        try:
            if kind == "roles":
                for run_id, role in durable.decode_json(content, dict[str, str]).items():
                    self._roles.setdefault(run_id, role)
            elif kind == "withdrawn":
                record = durable.decode_json(content, Withdrawal)
                for run_id in record.runs:
                    self._withdrawn.setdefault(run_id, record)
            elif kind == "fleet":
                # Only words: one that cannot be read must not close the archive.
                with contextlib.suppress(FleetError):
                    written = from_json(content, self._store.where(name))
                    self._fleets[written.digest] = written
        except JsonError as error:
            where = self._store.where(name)
            raise DataError(error.what, where=where, remedy="restore this object from a backup") from error
        self._records.add(name)

    def _put_record(self, kind: str, names: Sequence[str], content: Any) -> bool:
        """Write the next numbered record; False where another writer took the number, who must be read first."""
        last = max((name for name in names if name.startswith(f"{kind}-") and name.endswith(".json")), default="-0")
        number = 1 + int(last.rpartition("-")[2].removesuffix(".json"))
        return self._store.put_new([(f"{kind}-{number:06d}.json", msgspec.json.encode(content, order="sorted"))])[0]

    def _describe_fleet(self) -> None:
        """Leave word of what a row is, for whoever opens the archive with another fleet file; C-MAPSS's has none."""
        names = self._look()
        if self.schema.digest != FIRST_FLEET and self.schema.digest not in self._fleets:
            # Where another writer was faster, it has most likely written the same.
            self._put_record("fleet", names, self.schema)

    def _read(self, run_id: str) -> Run:
        name = run_id + _SUFFIX
        content = self._store.get(name) if is_run_id(run_id) else None
        if content is None:
            raise self._missing(name)
        run = decode(run_id, content, self._store.where(name), self.schema, self._fleets)
        return roles.assign([run], self._roles)[0]

    def _missing(self, name: str) -> DataError:
        what = "there is no such run in the archive"
        return DataError(what, where=self._store.where(name), exit_code=ExitCode.MISSING)

    def _read_labels(self) -> dict[str, Label | None]:
        """The labels of all archived runs, None for a damaged one; raises DataError for a run of another fleet."""
        ids = _runs(self._look())
        new = [run_id for run_id in ids if run_id not in self._labels]
        with ThreadPoolExecutor(max_workers=8) as pool:
            tails = pool.map(lambda run_id: self._store.tail(run_id + _SUFFIX, LABEL_BYTES), new)
            for run_id, tail in zip(new, tails, strict=True):
                label = read_label(run_id, tail or b"")
                if label is not None:
                    check_fleet(label, self._store.where(run_id + _SUFFIX), self.schema, self._fleets)
                self._labels[run_id] = label
        return self._labels

    def _by_rows(self, labels: Mapping[str, Label | None]) -> dict[str, str]:
        """The run that has each set of rows: one that was not withdrawn, where there is one."""
        found: dict[str, str] = {}
        for run_id in sorted(labels, key=lambda name: (name in self._withdrawn, name)):
            label = labels[run_id]
            if label is not None:
                found.setdefault(label.sha256, run_id)
        return found

    def _settle_twins(self, fresh: Mapping[str, Run]) -> dict[str, str]:
        """Withdraw what another writer has archived under another id meanwhile; for each of `fresh` that went, what
        stays.
        """
        by_rows: dict[str, list[str]] = {}
        for run_id, label in self._read_labels().items():
            if label is not None and run_id not in self._withdrawn:
                by_rows.setdefault(label.sha256, []).append(run_id)
        stays = {}
        for run in fresh.values():
            first, *others = sorted(by_rows.get(run.sha256, [])) or [run.run_id]
            if others:
                self.withdraw(others, f"the same rows as run {first}")
            if run.run_id in others:
                stays[run.run_id] = first
        return stays

    def _refuse_withdrawn(self, run_id: str) -> None:
        record = self._withdrawn.get(run_id)
        if record is not None:
            raise RunConflict(
                f"was withdrawn at {record.time} ({record.reason}) and is never learnt from again",
                where=f"run {run_id}",
                remedy="leave these rows out",
            )


def open_archive(location: str | Path, schema: Schema) -> Archive:
    """The archive of a fleet in a folder (made at the first `add`) or at `s3://bucket/prefix` (`stores.open_store`)."""
    return Archive(open_store(location), schema)


def _check_same(run: Run, known: Run, *, given_twice: bool = False) -> None:
    """Raise RunConflict where a run contradicts the one that has its id or its rows."""
    where = f"run {run.run_id}"
    if known.sha256 != run.sha256 and given_twice:
        raise RunConflict("is given twice with different rows", where=where)
    if known.sha256 != run.sha256:
        raise RunConflict(
            "is in the archive already with other rows; an archived run never changes",
            where=where,
            remedy="give the run another id, or use another archive for another fleet",
        )
    if known.censored != run.censored:
        ends = ("failed", "was taken out before it failed")
        raise RunConflict(
            f"{ends[run.censored]}, but the same rows are there as run {known.run_id}, which {ends[known.censored]}",
            where=where,
            remedy="an archived run never changes: where it is wrong, it can be withdrawn (driftloop archive withdraw)",
        )


def _runs(names: Iterable[str]) -> list[str]:
    return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
