"""Passwords of databases and brokers, which stand in files of their own."""

from pathlib import Path

from driftloop.errors import DriftloopError


def password(file: Path | None, named_by: str) -> str:
    """The password in a file, empty where none is named; raises DriftloopError where it cannot be read."""
    if file is None:
        return ""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        what = "the password cannot be read"
        raise DriftloopError(what, where=str(file), remedy=f"set {named_by} to a readable file") from error
