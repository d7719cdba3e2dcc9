"""The tables of the store. `migrations` makes them; a test holds the two against each other.

Times of rows (`time`) are what the fleet file calls time: counts, or seconds since 1970. Moments at which this process
did something (`received`, `made`, `recorded`) are seconds since 1970.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

NOTHING = -(2**62)
"""A place before every step."""

layouts = Table(
    "layouts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("fleet", Text, nullable=False),
    Column("columns", Text, nullable=False),
    Column("time", Text, nullable=False),
    Column("digest", Text, nullable=False),
)
"""What the readings of a row are, in order, as JSON; another one with each change of the columns in the fleet file."""

units = Table(
    "units",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created", Double, nullable=False),
)

lives = Table(
    "lives",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("unit", Integer, ForeignKey("units.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("first", Double),
    Column("first_step", BigInteger),
    Column("installed", Double),
    Column("age", BigInteger),
    Column("youth", Text, nullable=False),
    Column("ended", Double),
    Column("closed", Double),
    Column("closings", Integer, nullable=False, default=0),
    Column("skipped", BigInteger, nullable=False, default=NOTHING),
    Column("run_id", Text),
    Column("archive", Text, nullable=False, default=""),
    Column("note", Text),
    UniqueConstraint("unit", "number"),
    Index("lives_archive", "archive"),
)
"""One life of a unit: from its installation, or its first row, to its failure or removal."""

rows = Table(
    "rows",
    metadata,
    Column("life", Integer, ForeignKey("lives.id"), primary_key=True),
    Column("time", Double, primary_key=True),
    Column("received", Double, nullable=False),
    Column("mark", SmallInteger, nullable=False),
    Column("layout", Integer, nullable=False),
    Column("compared", Double),
    Column("ended", SmallInteger, nullable=False),
    Column("readings", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Raw rows: `readings` are little-endian float64, in the order of the layout's columns; NaN is missing."""

conflicts = Table(
    "conflicts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("life", Integer, ForeignKey("lives.id"), nullable=False),
    Column("time", Double, nullable=False),
    Column("received", Double, nullable=False),
    Column("layout", Integer, nullable=False),
    Column("readings", LargeBinary, nullable=False),
    UniqueConstraint("life", "time", "readings"),
)
"""Rows that were refused because another row of the same unit and time was there."""

predictions = Table(
    "predictions",
    metadata,
    Column("life", Integer, ForeignKey("lives.id"), primary_key=True),
    Column("place", BigInteger, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("time", Double, nullable=False),
    Column("rul", Double),
    Column("low", Double),
    Column("high", Double),
    Column("flags", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("made", Double, nullable=False),
    Column("true_rul", Double),
    Index("predictions_seq", "seq", unique=True),
    sqlite_with_rowid=False,
)
"""One answer for each step of a life: `place` counts steps from the life's first row, `step` as people do."""

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("unit", Integer, ForeignKey("units.id"), nullable=False),
    Column("life", Integer, ForeignKey("lives.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("time", Double),
    Column("happened", Text),
    Column("note", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("recorded", Double, nullable=False),
    Column("key", Text, unique=True),
    Column("withdrawn", Double),
    Column("withdrawn_by", Text),
    Column("withdrawn_why", Text),
    Index("events_unit", "unit"),
)
"""Life events, wrong ones among them."""

withdrawals = Table(
    "withdrawals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("event", Integer),
    Column("done", Double),
    Column("answer", Text),
)
"""Archived runs that are to be taken back, and what the retrainer said of each."""

cursors = Table(
    "cursors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("place", BigInteger, nullable=False),
)
"""How far streams have been told, and numbers that are not given out again."""

GIVEN_LIVES, GIVEN_ANSWERS = "lives", "answers"
"""The highest numbers of lives and answers that were ever given out, as far as the tables have lost them."""

# What became of a row.
USED, BACKFILLED, LATE, BEFORE_START, AFTER_END = range(5)
IN_LIFE = (USED, BACKFILLED, LATE)
"""Rows that are part of the run that is archived; answers rest on the first two kinds."""
