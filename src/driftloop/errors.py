"""The errors that driftloop shows to people."""


class DriftloopError(Exception):
    """Something a person can put right: says what was wrong, where, and what to do."""

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__("".join([f"{where}: " if where else "", what, f" ({remedy})" if remedy else ""]))


class DataError(DriftloopError):
    """Sensor data (a file, a run, an archive) that cannot be used as it is."""

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None, field: str = "") -> None:
        self.field = field
        """The part of a run that is to blame, where one is: `run_id`, `rows`, `rows[3][7]`."""
        super().__init__(what, where=where, remedy=remedy)


class BundleError(DriftloopError):
    """A model bundle that is incomplete, damaged or contradicts itself."""


class RegistryUnavailable(DriftloopError):
    """The model registry cannot be reached or answers with an error; what is served goes on being served."""


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
