"""The bundle: a model version as files, and all that serving, the watch and the gate know of a model.

`model.onnx` is the graph (driftloop.model.signature);
`baseline.json` is what healthy traffic looks like (driftloop.drift.baseline);
`metadata.json` says where the model came from, and what the rows of its fleet are (`Metadata`);
`checkpoint.npz` has the weights by name; only training reads it.
"""

import hashlib
from pathlib import Path

import msgspec

from driftloop import fleets
from driftloop.durable import read_json, write_atomically
from driftloop.errors import BundleError, FleetError, JsonError
from driftloop.fleet.schema import Schema

MODEL, BASELINE, METADATA, CHECKPOINT = "model.onnx", "baseline.json", "metadata.json", "checkpoint.npz"
FIRST_AID = "first_aid"
"""The `training` of a provisional version."""
SERVING_FILES = (MODEL, BASELINE, METADATA)


class ManifestEntry(msgspec.Struct, frozen=True):
    """One completed run a model knows: its role in training and the operating domain it belongs to.

    A domain is the set of runs that arrived between two trainings; 0 is the first champion's.
    """

    run_id: str
    sha256: str
    role: str
    domain: int
    cycles: int
    superseded: bool = False
    """Its inputs are still what a healthy engine shows, but its labels no longer hold (concept drift): it counts for
    the baseline, and nothing is learnt from it or judged on it."""


class Example(msgspec.Struct, frozen=True):
    """Rows `[batch][steps][columns]` and the answers that the exporter got for them."""

    rows: list[list[list[float | None]]]
    rul: list[float]
    lower: list[float]
    upper: list[float]


class Ages(msgspec.Struct, frozen=True):
    """What is usual of units as they age: of normalised sensors, in bands of the steps since a unit's first row."""

    edges: list[int]
    """Steps at which the next band begins."""
    mean: list[list[float]]
    """`[bands][sensors]`"""
    square: list[list[float]]
    """Mean square, `[bands][sensors]`."""


class ErrorTable(msgspec.Struct, frozen=True):
    """Errors of reference units by bin of the answer: mean squares in steps, and shares inside the interval."""

    units: int
    square: list[float]
    inside: list[float]
    draws: list[list[float]]
    """The mean squares as other units would show them, `[draws][bins]`."""


class Rehearsal(msgspec.Struct, frozen=True):
    """What first aid was seen to do on the units that a model was calibrated with (driftloop.training.rehearsal)."""

    widening: list[float]
    """Steps by which both ends of the interval must move for labels of each band, in a regime that was grown."""
    slope: float
    """How much healthy answers below the cap change from one step to the next: the median over units."""
    at_cap: float
    """Share of healthy answers that are at the cap, along whole windows."""
    units: int
    """Units that slope and share come from."""
    ages: Ages
    errors: ErrorTable | None = None
    """How wrong answers in grown regimes are (driftloop.drift.live_error); None before that was found."""
    short_at_cap: float | None = None
    """The share at the cap along windows of a few rows (driftloop.model.first_aid.ALONG), which tell less of a unit's
    wear; None before that was found."""
    rows: tuple[float, float] = (0.0, 0.0)
    """Mean rows of these short windows, and of whole ones."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model came from and what it needs."""

    window: int
    """Newest rows that the graph looks at; it pads shorter histories itself."""
    regimes: int
    manifest: list[ManifestEntry]
    example: Example
    data_source: str
    """`nasa` or `simulated`."""
    seed: int
    training: str
    """`full`, `warm_start` or `first_aid`."""
    parent_version: str | None = None
    cause: str | None = None
    git_commit: str | None = None
    dvc_revision: str | None = None
    parameters: dict[str, float | int | str | bool] = {}
    metrics: dict[str, float] = {}
    interval_coverage: float = 0.9
    interval_method: str | msgspec.UnsetType = msgspec.UNSET
    """`cv+` where less than `interval_coverage` is proven (driftloop.training.intervals); else not there."""
    cap: int
    """Steps; labels above it were set to it."""
    fleet: Schema | None = None
    """What a row is; None in a bundle that was made when there was one fleet alone."""
    created: str = ""
    rehearsal: Rehearsal | None = None
    """None where first aid cannot be rehearsed: continuous settings or none."""

    @property
    def provisional(self) -> bool:
        """Whether this is first aid: grown from traffic without labels, until a labelled version takes its place."""
        return self.training == FIRST_AID

    @property
    def schema(self) -> Schema:
        """What the rows of this model's fleet are."""
        return fleets.load(fleets.FIRST) if self.fleet is None else self.fleet


def write_metadata(folder: Path, metadata: Metadata) -> None:
    """Write `metadata.json` into a bundle's folder."""
    write_atomically(folder / METADATA, msgspec.json.format(msgspec.json.encode(metadata), indent=1) + b"\n")


def read_metadata(folder: Path) -> Metadata:
    """Read `metadata.json`; raises BundleError naming the file and the field."""
    path = folder / METADATA
    try:
        metadata = read_json(path, Metadata)
    except OSError as error:
        raise BundleError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (JsonError, FleetError) as error:
        raise BundleError(error.what, where=str(path)) from error
    return metadata


def digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of a bundle's serving files; raises BundleError where one is missing."""
    whole = hashlib.sha256()
    for name in SERVING_FILES:
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{name} cannot be read: {error.strerror}", where=str(folder)) from error
        whole.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return whole.hexdigest()
