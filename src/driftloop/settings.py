"""Every setting of driftloop, read from the environment here and nowhere else.

A setting `server_url` is the variable `DRIFTLOOP_SERVER_URL`; the two exceptions, `CMAPSS_DIR` and
`ENABLE_RETRAINING`, have no prefix. A variable that is empty counts as unset.
"""

import difflib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from driftloop import fleets, places
from driftloop.errors import DriftloopError
from driftloop.fleet import fleet_file
from driftloop.fleet.schema import Schema

OWN_TOKEN = "token"
"""Name of the file, in the state folder, with the token that an embedded platform makes for itself."""
_PREFIX = "DRIFTLOOP_"
_ALIKE = 0.8
"""How like a setting's name another one must be to be told of (difflib's ratio, without the prefix)."""


class Settings(BaseSettings):
    """One typed, frozen set of settings; `load()` makes it with an error for people."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_ignore_empty=True, frozen=True, extra="ignore", populate_by_name=True
    )

    # Which fleet, and where things are.
    fleet: str = Field(
        "cmapss", description="the fleet that is served: a built-in one by its name, or the path of a fleet.toml"
    )
    state_dir: Path = Field(Path("state"), description="folder for everything that must survive a restart")
    cmapss_dir: Path | None = Field(None, validation_alias="CMAPSS_DIR", description="folder with NASA's files")
    raw_dir: Path = Field(Path("data/raw/cmapss"), description="folder with NASA's files where CMAPSS_DIR is unset")
    cmapss_url: str = Field("", description="zip archive with NASA's files; empty: NASA's public addresses")
    simulator_seed: int = Field(0, ge=0, description="seed of the fleet that is simulated where there are no files")
    simulator_engines: int | None = Field(None, gt=0, description="engines in each simulated split; unset: as NASA's")
    archive: str = Field("", description="archive of completed runs: a folder, or s3://bucket/prefix")
    mlflow_url: str = Field("http://127.0.0.1:5500", description="the model registry")
    server_url: str = Field("http://127.0.0.1:8500", description="the prediction server")
    replicas_url: str = Field(
        "", description="address whose name stands for every replica of the server; empty: that of the server"
    )
    retrainer_url: str = Field("http://127.0.0.1:8600", description="the service that retrains")
    console_url: str = Field("http://127.0.0.1:8400", description="the console: its pages and the public API")
    prometheus_url: str = Field("", description="read traffic from Prometheus; empty: scrape the server")
    alertmanager_url: str = Field("", description="send alerts through Alertmanager; empty: to the retrainer")
    study_database: str = Field(
        "", description="SQLAlchemy URL of the database with the studies of `tune`; empty: SQLite in the state folder"
    )
    study_grace_s: int = Field(
        60, ge=6, description="seconds of silence after which a worker of `tune` counts as dead and its trial goes on"
    )
    pushgateway_url: str = Field("", description="push the drift report's figures here; empty: nowhere")
    token_file: Path | None = Field(
        None,
        description="file with the token that changing calls must bring; unset: `token` in the state folder, if there",
    )

    log_format: Literal["text", "json"] = Field(
        "text", description="json: what processes say is lines of JSON on standard error, one for each request too"
    )

    # Who may do what.
    access_dir: Path | None = Field(
        None,
        description="folder with named tokens, people and the audit log; unset: `access` in the state folder",
    )
    predict_openly: bool = Field(
        False,
        description="answer POST /predict, POST /explain and GET /model to whoever reaches the server, as where the "
        "network decides who does",
    )
    trusted_proxies: str = Field(
        "", description="addresses or networks, by commas, whose headers say who is asking; empty: nobody's do"
    )
    proxy_user_header: str = Field("X-Forwarded-User", description="header in which they name who is asking")
    proxy_groups_header: str = Field("X-Forwarded-Groups", description="header with the groups of who is asking")
    proxy_roles: str = Field(
        "", description="role of each group or person, such as planners=view,reliability=operate,user:anna=admin"
    )
    proxy_password_file: Path | None = Field(
        None,
        description="file with the password, as of HTTP Basic, without which headers of a trusted proxy do not count; "
        "unset: its address is enough",
    )
    session_idle_s: float = Field(3600.0, gt=0, description="idle seconds after which a person must log in again")
    session_longest_s: float = Field(43_200.0, gt=0, description="seconds after which a person must log in again")
    tls_cert: Path | None = Field(
        None, description="certificate chain (PEM) of a process whose own address begins with https"
    )
    tls_key: Path | None = Field(None, description="its key (PEM)")

    # Serving.
    model_name: str = Field(
        "", description="name of the registered model; empty: rul-lstm for cmapss, else rul-<name of the fleet>"
    )
    follow_interval_s: float = Field(0.8, gt=0, description="how often the server looks up the production alias")
    max_batch: int = Field(256, gt=0, description="windows in one request")
    max_cycles: int = Field(1000, gt=0, description="rows in one window")
    max_body_bytes: int = Field(8 * 2**20, gt=0, description="largest body of POST /predict")
    inference_log_bytes: int = Field(32 * 2**20, gt=0, description="size at which the inference log is rotated")
    inference_log_files: int = Field(3, gt=0, description="rotated inference logs that are kept")
    ring_units: int = Field(256, gt=0, description="units of which the server remembers the newest window")
    ring_rows: int = Field(256, gt=0, description="newest rows of such a window")
    ring_bytes: int = Field(32 * 2**20, gt=0, description="most memory of all such windows together")

    # Drift.
    watch_interval_s: float = Field(1.0, gt=0, description="pause between two verdicts")
    watch_window: int = Field(500, gt=0, description="newest requests that a verdict looks at")

    # The loop.
    enable_retraining: bool = Field(
        True, validation_alias="ENABLE_RETRAINING", description="false: the loop stops at the alert"
    )
    min_new_engines: int | None = Field(
        None,
        gt=0,
        description="new completed runs that a retraining needs; unset: 20 for cmapss, else the fleet's least numbers",
    )
    first_aid: bool = Field(
        True, description="grow the served model's regimes from traffic while a change of the fleet waits for labels"
    )
    promotion: Literal["automatic", "approve"] = Field(
        "automatic", description="`approve`: what the gate passes waits for a person; see docs/approvals.md"
    )
    approval_deadline_s: float = Field(86_400.0, ge=0, description="how long a person has to answer; 0: for ever")
    after_deadline: Literal["wait", "reject", "promote"] = Field(
        "wait",
        description="what follows where nobody answered: keep waiting, reject, or promote what passed",
    )
    approve_first_aid: bool = Field(False, description="with `promotion=approve`: first aid waits for a person too")
    shadow_answers: int = Field(
        100, ge=0, description="requests that a challenger answers beside the champion before a promotion; 0: none"
    )
    shadow_s: float = Field(5.0, gt=0, description="longest time of that; silence does not stop a promotion")
    notify_file: Path | None = Field(
        None, description="file with the addresses of whom to tell, one a line (docs/notifications.md); unset: nobody"
    )
    notify_cool_down_s: float = Field(
        900.0, ge=0, description="pause before people are told again of a cause that they were told of"
    )
    docs_url: str = Field("docs", description="where the documentation is, for links in messages")
    supersede_pause_s: float = Field(
        60.0, ge=0, description="time to look at what is about to happen before a concept drift supersedes all labels"
    )
    old_tolerance: float = Field(0.15, ge=0, description="share by which RMSE on old engines may grow")
    cool_down_s: float = Field(30.0, ge=0, description="pause after a retraining before the next may start")
    recovery_answers: int = Field(
        3000, gt=0, description="answers of a promoted version after which it is rolled back where the watch sees drift"
    )
    pipeline_backend: Literal["local", "job", "kfp"] = Field(
        "local", description="where pipelines run: beside the retrainer, as Kubernetes Jobs, on Kubeflow Pipelines"
    )
    pipeline_job: Path | None = Field(
        None, description="file with the Job that `job` makes and whose pod `kfp` gives to its steps"
    )
    kfp_url: str = Field("http://ml-pipeline:8888", description="the API of Kubeflow Pipelines")
    step_timeout_s: float = Field(3600.0, gt=0, description="longest time of one pipeline step")
    keep_versions: int = Field(20, gt=1, description="model versions kept besides those with an alias")
    keep_events: int = Field(100_000, gt=0, description="newest events of the loop that are kept")
    max_archive_bytes: int = Field(64 * 2**20, gt=0, description="largest body of POST /archive/runs")

    # The fleet in service.
    units_url: str = Field("http://127.0.0.1:8700", description="the service that takes rows and life events")
    units_database: str = Field(
        "", description="SQLAlchemy URL of the database with rows and predictions; empty: SQLite in the state folder"
    )
    units_password_file: Path | None = Field(None, description="file with the password of that database")
    units_lateness_s: float = Field(
        10.0, ge=0, description="how long rows of a step that come late are waited for before it is predicted"
    )
    units_skew_s: float = Field(
        60.0, ge=0, description="how far ahead of this machine's clock the time of a row may be before it is refused"
    )
    units_past_days: float = Field(
        3650.0,
        gt=0,
        description="how far behind this machine's clock a row may be, unless it is sent as history",
    )
    units_jump_steps: float = Field(
        10_000.0,
        ge=1,
        description="how many steps a counter may be from the newest row of its unit before a row is refused",
    )
    units_keep_days: float = Field(
        0.0, ge=0, description="days after which rows of archived lives are deleted; 0: they are kept"
    )
    units_tail_bytes: int = Field(
        256 * 2**20, gt=0, description="most memory for the newest rows of all units; what does not fit is read again"
    )
    units_body_bytes: int = Field(16 * 2**20, gt=0, description="largest body of POST /telemetry")
    units_stream: str = Field(
        "", description="address of a broker for streams: nats://host:4222 or kafka://host:9092; empty: none"
    )
    units_stream_password_file: Path | None = Field(None, description="file with the password of that broker's user")

    @field_validator("fleet")
    @classmethod
    def _absolute(cls, fleet: str) -> str:
        """A path stays right in processes that run in another folder; what is none may be a fleet's name, also beside a
        folder of data that is called so.
        """
        path = Path(fleet).expanduser()
        found = path.is_file() or (path / fleet_file.NAME).is_file()
        return str(path.absolute()) if fleet not in fleets.BUILTIN and found else fleet

    @field_validator(
        "mlflow_url",
        "server_url",
        "replicas_url",
        "retrainer_url",
        "console_url",
        "prometheus_url",
        "alertmanager_url",
        "pushgateway_url",
        "kfp_url",
        "units_url",
    )
    @classmethod
    def _no_slash_at_the_end(cls, url: str) -> str:
        """Paths are put behind an address as it is."""
        return url.strip().rstrip("/")

    @model_validator(mode="after")
    def _no_placeholder_token(self) -> "Settings":
        if self.token_file is not None and self.token_file.is_file():
            try:
                token = self.token_file.read_text(encoding="utf-8").strip()
            except UnicodeDecodeError:
                raise ValueError(f"the token in {self.token_file} is not UTF-8 text") from None
            except OSError:  # whoever needs it says so
                return self
            if len(token) < 16 or token.lower().startswith(("change", "placeholder", "secret")):
                raise ValueError(f"the token in {self.token_file} is a placeholder or shorter than 16 characters")
        return self

    @cached_property
    def schema(self) -> Schema:  # type: ignore[override]  # hides a deprecated method of pydantic that nobody calls
        """The schema of `fleet`; raises FleetError where its file is not there or not right."""
        return fleets.load(self.fleet)

    @property
    def model(self) -> str:
        """Name of the registered model: the `model_name` setting, or the one that follows from the fleet's name."""
        return self.model_name or ("rul-lstm" if self.schema.name == "cmapss" else f"rul-{self.schema.name}")

    @property
    def new_units(self) -> int:
        """New completed runs that a retraining needs: `min_new_engines`, or, where that is not set, 20 for C-MAPSS and
        the sum of the fleet's least numbers for any other.
        """
        if self.min_new_engines is not None:
            return self.min_new_engines
        return 20 if self.schema.name == "cmapss" else sum(self.schema.least.values())

    @cached_property
    def token(self) -> str:
        """The shared token of mutating calls, from `token_file` or else from what `driftloop up` left in the state
        folder; empty where there is neither.
        """
        path = self.token_file or self.state_dir / OWN_TOKEN
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            if self.token_file is None and isinstance(error, FileNotFoundError):
                return ""
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise DriftloopError(
                f"the token file cannot be read: {why}",
                where=str(path),
                remedy="set DRIFTLOOP_TOKEN_FILE to a readable file with at least 16 random characters",
            ) from error

    @property
    def access_folder(self) -> Path:
        """Where named tokens, people and the audit log are kept."""
        return self.access_dir or self.state_dir / "access"

    @property
    def archive_location(self) -> str:
        """Where completed runs are kept: the `archive` setting, or a folder of the state folder."""
        return self.archive or str(self.state_dir / "archive")


def load(**overrides: object) -> Settings:
    """The settings of this process, and where a platform of several fleets is in the state folder, of its fleet.

    That is the one that DRIFTLOOP_FLEET names, or the only one. Raises DriftloopError that names each bad variable, its
    value and the rule, or the fleets where none is named.
    """
    alone = from_environment(**overrides)
    known = places.read(alone.state_dir)
    if known is None:
        return alone
    return of_fleet(alone, known, places.choose(known, alone.fleet if "fleet" in alone.model_fields_set else None))


def of_fleet(alone: Settings, known: places.Places, name: str) -> Settings:
    """The settings of one of the fleets that share the state folder of `alone`."""
    place = known.fleets[name]
    own = {
        "mlflow_url": known.mlflow_url,
        "server_url": place.server_url,
        "retrainer_url": place.retrainer_url,
        **({"units_url": place.units_url} if place.units_url else {}),
    }
    if len(known.up) == 1 and place.folder == ".":
        own = {field: url for field, url in own.items() if field not in alone.model_fields_set}
    token = alone.token_file or alone.state_dir / OWN_TOKEN
    of_place = {
        **own,
        "fleet": place.fleet,
        "state_dir": alone.state_dir / place.folder,
        "archive": _archive_of(alone.archive, place.folder, name),
        "token_file": token if token.exists() else alone.token_file,
        "access_dir": alone.access_folder,
    }
    return from_environment(**{**alone.model_dump(include=alone.model_fields_set), **of_place})


def _archive_of(location: str, folder: str, name: str) -> str:
    """The archive of one of several fleets: beside that of the first, never in it."""
    if not location or folder == ".":
        return location
    if location.startswith("s3://") and "/" not in location.removeprefix("s3://").strip("/"):
        raise DriftloopError(
            "a whole bucket cannot be the archive of several fleets",
            where=f"DRIFTLOOP_ARCHIVE = {location}",
            remedy="name a prefix in it, such as s3://bucket/runs; the other fleets get runs-<name>",
        )
    return f"{location.rstrip('/')}-{name}"


def from_environment(**overrides: object) -> Settings:
    """The settings as the environment alone has them; raises DriftloopError as `load` does."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"]) or "settings"
            named = variable(name) if name in Settings.model_fields else name
            lines.append(f"{named} = {problem.get('input')!r}: {problem['msg']}")
        raise DriftloopError("; ".join(lines), where="environment", remedy="correct or unset these variables") from None


def variable(name: str) -> str:
    """The environment variable that the setting `name` is read from."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else f"{_PREFIX}{name.upper()}"


def misspelt(variables: Iterable[str]) -> dict[str, str]:
    """Those of `variables` that no setting is read from, though one is nearly called so: each with that one's name.

    A setting under a wrong name keeps its default, and nothing else would say so.
    """
    known = {name.removeprefix(_PREFIX): name for name in map(variable, Settings.model_fields)}
    bare = [name for name in known.values() if not name.startswith(_PREFIX)]
    found = {}
    for given in variables:
        name = given.upper()  # upper and lower case are one
        if name in known.values():
            continue
        candidates = known if name.startswith(_PREFIX) else bare
        near = difflib.get_close_matches(name.removeprefix(_PREFIX), candidates, n=1, cutoff=_ALIKE)
        if near:
            found[given] = known[near[0]]
    return found
