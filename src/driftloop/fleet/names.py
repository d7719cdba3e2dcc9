"""Names that are safe in metric labels, JSON, files, models and Kubernetes; and the safe forms of those that are not.

A column's safe form: `%`, `°`, `µ` and `Ω` are spelt out (`pct`, `deg`, `u`, `ohm`), accents are dropped, every run of
other characters becomes one underscore, and a leading digit, `prediction` and `regime` get an underscore before them:
`Temp. (°C)` is `Temp_degC`.
A unit has one name, however it is typed: an accent is part of its letter (Unicode's NFC), there are no blanks around a
name, and one blank between its words. Upper and lower case are different names, since fleets have both.
A unit's safe form is the name itself where it can be; else what is safe of it, a dash, and eight digits of its
SHA-256, so that two names never become one.
"""

import hashlib
import re
import unicodedata

COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
FLEET = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

RESERVED = frozenset({"prediction", "regime"})
"""Features that every fleet has: no column may take their names."""

_SPELT = str.maketrans({"%": "pct", "°": "deg", "º": "deg", "µ": "u", "μ": "u", "Ω": "ohm", "ß": "ss"})
_LATER = re.compile(r"(\.life\d+)?(\.again\d+)?$")
"""What the id of a run of a later life has behind its unit's; `again`: a life that ended, went on and ended anew."""
_KEPT = 100
"""Characters of an unsafe unit's name that stay readable in its run id."""


def unit(text: str) -> str:
    """A unit's name in the one way in which it is kept."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def safe_column(header: str) -> str:
    """The safe form of a column's header; empty where nothing of it is safe."""
    name = re.sub(r"\W+", "_", _plain(header), flags=re.ASCII).strip("_")[:60].rstrip("_")
    if not name:
        return ""
    if name[0].isdigit() or name.lower() in RESERVED:
        name = "_" + name
    return name


def safe_fleet(text: str) -> str:
    """A fleet's name made of any text, at most 40 characters; empty where nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", _plain(text).lower()).strip("-")[:40].rstrip("-")


def run_id(unit: str, life: int = 1) -> str:
    """The id of the run of a unit's first or later life: `7`, `7.life2`.

    It is the unit's own name where that is safe, else a safe form that no other unit has.
    """
    return _safe_unit(unit) if life == 1 else f"{_safe_unit(unit)}.life{life}"


def unit_of(run_id: str) -> str:
    """The id of the first run of the unit that a run is of: what its lives have in common."""
    return _LATER.sub("", run_id)


def _safe_unit(unit: str) -> str:
    if UNIT.fullmatch(unit) and ".." not in unit:
        return unit
    digest = hashlib.sha256(unit.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = re.sub(r"[^A-Za-z0-9_-]+", "-", _plain(unit)).strip("-_")[:_KEPT].rstrip("-_")
    return f"{kept or 'unit'}-{digest}"


def plural(word: str) -> str:
    """What several of a thing are called: `presses`, `batteries`, `cells`."""
    if re.search(r"(s|x|z|ch|sh)$", word):
        return f"{word}es"
    return f"{word[:-1]}ies" if re.search(r"[^aeiou]y$", word) else f"{word}s"


def one(word: str) -> str:
    """A thing with its article: `an engine`, `a cell`."""
    return f"{'an' if word[0].lower() in 'aeiou' else 'a'} {word}"


def _plain(text: str) -> str:
    """`text` without accents, its signs spelt out; what is not ASCII then becomes a space."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_SPELT))
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() else " " for letter in bare)
