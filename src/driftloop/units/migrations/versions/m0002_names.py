"""Units under the names that are kept today: accents as part of their letters, no blanks around, one between words.

Where two units would have one name, both keep theirs; rows go to the one whose name is the one that is kept.
"""

import sqlalchemy as sa
from alembic import op

from driftloop.fleet import names

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rename units."""
    connection, units = op.get_bind(), sa.table("units", sa.column("id"), sa.column("name"))
    found = connection.execute(sa.select(units.c.id, units.c.name).order_by(units.c.id)).all()
    taken = {one.name for one in found}
    for one in found:
        name = names.unit(one.name)
        if name not in taken:
            taken.add(name)
            connection.execute(sa.update(units).where(units.c.id == one.id).values(name=name))


def downgrade() -> None:
    """Not offered: a backup is what goes back."""
    raise NotImplementedError("restore a backup of the store")
