"""Alembic's entry: `driftloop.units.store` brings the connection, and the transaction around all steps."""

from alembic import context

from driftloop.units.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
