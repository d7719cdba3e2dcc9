"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "layouts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("fleet", sa.Text, nullable=False),
        sa.Column("columns", sa.Text, nullable=False),
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
    )
    op.create_table(
        "units",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("created", sa.Double, nullable=False),
    )
    op.create_table(
        "lives",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("unit", sa.Integer, sa.ForeignKey("units.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("first", sa.Double),
        sa.Column("first_step", sa.BigInteger),
        sa.Column("installed", sa.Double),
        sa.Column("age", sa.BigInteger),
        sa.Column("youth", sa.Text, nullable=False),
        sa.Column("ended", sa.Double),
        sa.Column("closed", sa.Double),
        sa.Column("closings", sa.Integer, nullable=False),
        sa.Column("skipped", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("archive", sa.Text, nullable=False),
        sa.Column("note", sa.Text),
        sa.UniqueConstraint("unit", "number"),
    )
    op.create_index("lives_archive", "lives", ["archive"])
    op.create_table(
        "rows",
        sa.Column("life", sa.Integer, sa.ForeignKey("lives.id"), primary_key=True),
        sa.Column("time", sa.Double, primary_key=True),
        sa.Column("received", sa.Double, nullable=False),
        sa.Column("mark", sa.SmallInteger, nullable=False),
        sa.Column("layout", sa.Integer, nullable=False),
        sa.Column("compared", sa.Double),
        sa.Column("ended", sa.SmallInteger, nullable=False),
        sa.Column("readings", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "conflicts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("life", sa.Integer, sa.ForeignKey("lives.id"), nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("received", sa.Double, nullable=False),
        sa.Column("layout", sa.Integer, nullable=False),
        sa.Column("readings", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("life", "time", "readings"),
    )
    op.create_table(
        "predictions",
        sa.Column("life", sa.Integer, sa.ForeignKey("lives.id"), primary_key=True),
        sa.Column("place", sa.BigInteger, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("rul", sa.Double),
        sa.Column("low", sa.Double),
        sa.Column("high", sa.Double),
        sa.Column("flags", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("made", sa.Double, nullable=False),
        sa.Column("true_rul", sa.Double),
        sqlite_with_rowid=False,
    )
    op.create_index("predictions_seq", "predictions", ["seq"], unique=True)
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("unit", sa.Integer, sa.ForeignKey("units.id"), nullable=False),
        sa.Column("life", sa.Integer, sa.ForeignKey("lives.id"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("time", sa.Double),
        sa.Column("happened", sa.Text),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("recorded", sa.Double, nullable=False),
        sa.Column("key", sa.Text, unique=True),
        sa.Column("withdrawn", sa.Double),
        sa.Column("withdrawn_by", sa.Text),
        sa.Column("withdrawn_why", sa.Text),
    )
    op.create_index("events_unit", "events", ["unit"])
    op.create_table(
        "withdrawals",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("event", sa.Integer),
        sa.Column("done", sa.Double),
        sa.Column("answer", sa.Text),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("place", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Not offered: a backup is what goes back."""
    raise NotImplementedError("restore a backup of the store")
