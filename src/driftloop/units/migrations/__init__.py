"""The schema of the store, step by step, as Alembic runs it when the store is opened."""
