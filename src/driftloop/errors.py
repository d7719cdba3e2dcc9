"""The errors that driftloop shows to people, and the exit codes of its commands."""

from enum import IntEnum


class ExitCode(IntEnum):
    """With which code a command ends: for scripts, which must not read words."""

    def __new__(cls, code: int, meaning: str) -> "ExitCode":
        """`meaning` is what docs/reference says of it."""
        made = int.__new__(cls, code)
        made._value_, made.meaning = code, meaning
        return made

    meaning: str

    DONE = 0, "it did what it was asked to do, and the answer is yes"
    NO = 1, "it did what it was asked to do, and the answer is no: not up, drift, a problem found, a part refused"
    ERROR = 2, "it was called wrongly, or something on this machine must be put right: an option, a setting, a file"
    UNDECIDED = 3, "it cannot tell yet: too little data, or no model in production"
    MISSING = 4, "what was named is not there: a version, a unit, a run, a token"
    REFUSED = 5, "the platform answered and refused: a right is missing, or it cannot be done in the present state"
    UNREACHABLE = 6, "nobody answered, or only with an error of their own: the platform is down or on its way up"
    INTERRUPTED = 130, "somebody ended it with Ctrl-C"


class DriftloopError(Exception):
    """Something a person can put right: says what was wrong, where, and what to do."""

    exit_code = ExitCode.ERROR

    def __init__(
        self, what: str, *, where: str | None = None, remedy: str | None = None, exit_code: ExitCode | None = None
    ) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        if exit_code is not None:
            self.exit_code = exit_code
        super().__init__("".join([f"{where}: " if where else "", what, f" ({remedy})" if remedy else ""]))


class DataError(DriftloopError):
    """Sensor data (a file, a run, an archive) that cannot be used as it is."""

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        remedy: str | None = None,
        field: str = "",
        exit_code: ExitCode | None = None,
    ) -> None:
        self.field = field
        """The part of a run that is to blame, where one is: `run_id`, `rows`, `rows[3][7]`."""
        super().__init__(what, where=where, remedy=remedy, exit_code=exit_code)


class BundleError(DriftloopError):
    """A model bundle that is incomplete, damaged or contradicts itself."""


class RegistryUnavailable(DriftloopError):
    """The model registry cannot be reached or answers with an error; what is served goes on being served."""

    exit_code = ExitCode.UNREACHABLE


class JsonError(DriftloopError):
    """JSON that cannot be read: no UTF-8, cut short, nested too deeply, or not of the shape it should have."""

    def __init__(
        self, message: str, *, field: str = "", malformed: bool, where: str | None = None, remedy: str | None = None
    ) -> None:
        self.message, self.field, self.malformed = message, field, malformed
        """What is wrong; the field that is to blame (`alerts[0].startsAt`), empty for the whole; and whether it is no
        JSON at all rather than JSON of another shape."""
        what = f"is not JSON: {message}" if malformed else message
        super().__init__(f"{what}, at {field}" if field else what, where=where, remedy=remedy)


class FleetError(DriftloopError):
    """A fleet file, or the schema in a bundle, that is not understood or contradicts itself."""

    def __init__(
        self, what: str, *, key: tuple[str | int, ...] = (), where: str | None = None, remedy: str | None = None
    ) -> None:
        self.key = key
        """Where in the file: `("sensors", 3, "range")`."""
        super().__init__(what, where=where, remedy=remedy)
