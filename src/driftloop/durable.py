"""Writing facts that must survive a crash: whole files by rename, logs a line at a time, times in UTC.

And the one way to read JSON, whoever wrote it: what cannot be read is a JsonError and nothing else, whether a byte is
damaged, the end is missing, or the content is another than was expected.
"""

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from driftloop import choices
from driftloop.errors import DataError, JsonError

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

T = TypeVar("T")

NOT_JSON = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What msgspec raises for bytes that it cannot read, for code that decodes many small messages by itself."""


def now() -> str:
    """The time as RFC 3339 in UTC with milliseconds, the form of every time that driftloop writes."""
    return format_time(datetime.now(UTC))


def format_time(moment: datetime) -> str:
    """An aware datetime as RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_seconds(seconds: float) -> str:
    """Seconds since 1970 in the same form."""
    return format_time(datetime.fromtimestamp(seconds, UTC))


def parse_time(text: str) -> datetime:
    """An RFC 3339 time as an aware datetime; raises ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; RFC 3339 wants one, such as 2026-01-31T12:00:00Z")
    return moment.astimezone(UTC)


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Put `content` at `path`, so that a reader or a crash sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Write `value` as indented JSON with sorted keys, atomically; equal values give equal bytes."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_atomically(path, text.encode(), mode=mode)


def append_json_line(path: Path, value: dict[str, Any]) -> None:
    """Append `value` as one line of JSON and wait until it is on disk; where that fails, nothing was appended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(value, allow_nan=False) + "\n").encode()
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        # A crash can leave half a line; the next record must not be glued to it.
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line
        try:
            # A disk that is nearly full takes a part without a word.
            left = memoryview(line)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)


@overload
def decode_json(content: bytes | str, kind: type[T], *, where: str | None = None, remedy: str | None = None) -> T: ...
@overload
def decode_json(content: bytes | str, *, where: str | None = None, remedy: str | None = None) -> Any: ...
def decode_json(content: bytes | str, kind: Any = Any, *, where: str | None = None, remedy: str | None = None) -> Any:
    """JSON read into `kind` (whatever msgspec understands); raises JsonError with `where` and `remedy`."""
    try:
        return msgspec.json.decode(content, type=kind)
    except NOT_JSON as error:
        raise json_error(error, kind, where=where, remedy=remedy) from error


@overload
def read_json(path: Path, kind: type[T], *, remedy: str | None = None) -> T: ...
@overload
def read_json(path: Path, *, remedy: str | None = None) -> Any: ...
def read_json(path: Path, kind: Any = Any, *, remedy: str | None = None) -> Any:
    """The JSON of a file read into `kind`; raises FileNotFoundError where there is none, JsonError where it is bad."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error, remedy) from error
    return decode_json(content, kind, where=str(path), remedy=remedy)


def json_error(error: Exception, kind: Any = Any, *, where: str | None = None, remedy: str | None = None) -> JsonError:
    """What is wrong, in words, of an exception in NOT_JSON; `kind` is what was to be read."""
    if isinstance(error, RecursionError):
        return JsonError("is nested too deeply", malformed=False, where=where, remedy=remedy)
    if isinstance(error, UnicodeError):
        return JsonError("it is not UTF-8", malformed=True, where=where, remedy=remedy)
    if not isinstance(error, msgspec.ValidationError):
        return JsonError(str(error), malformed=True, where=where, remedy=remedy)
    # msgspec: Expected `str`, got `int` - at `$.alerts[0].status`
    what, _, path = str(error).partition(" - at ")
    word = what.removeprefix("Invalid enum value ")
    if word != what and (known := choices.at(kind, path.strip("`"))):
        what = f"is {word}; it may be {', '.join(known)}"
    field = path.strip("`").removeprefix("$").removeprefix(".")
    return JsonError(what, field=field, malformed=False, where=where, remedy=remedy)


@overload
def read_json_lines(path: Path, kind: type[T]) -> Iterator[T]: ...
@overload
def read_json_lines(path: Path) -> Iterator[dict[str, Any]]: ...
def read_json_lines(path: Path, kind: Any = dict[str, Any]) -> Iterator[Any]:
    """The records of a file of JSON lines, each read into `kind`, in order; none where there is no such file.

    A line that cannot be read is passed over: one cut short by a crash, or one with a damaged byte. How many they
    were is logged at the end. Raises JsonError where the file cannot be read at all.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(path, error) from error
    lost, first = 0, ""
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = _line(line, kind)
            except JsonError as error:
                lost, first = lost + 1, first or f"line {number} {error}"
            else:
                yield record
    if lost:
        log.warning("%s: %d lines cannot be read and are passed over (%s)", path, lost, first)


def read_arrays(path: Path) -> "dict[str, NDArray[Any]]":
    """The arrays of a file that `numpy.savez` wrote; raises FileNotFoundError, or DataError where it is damaged."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except Exception as error:
        # A damaged zip file raises nearly anything: zlib.error, NotImplementedError, struct.error, MemoryError, ...
        raise DataError(f"is damaged or no file of arrays ({error})", where=str(path)) from error


def _unreadable(path: Path, error: OSError, remedy: str | None = None) -> JsonError:
    what = f"cannot be read ({error.strerror or error})"
    return JsonError(what, malformed=False, where=str(path), remedy=remedy)


def _line(line: bytes, kind: Any) -> Any:
    # Python's reader takes what its writer has written (append_json_line), half surrogate pairs included.
    try:
        return msgspec.convert(json.loads(line.decode()), kind)
    except NOT_JSON as error:
        raise json_error(error) from error
    except ValueError as error:
        raise JsonError(str(error), malformed=True) from error


def sync_folder(folder: Path) -> None:
    """Wait until what was made or renamed in a folder is on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
