"""Runs the migrations on the connection that `shared.migrations` hands over.

The migrations are written by hand; `tests/integration/test_migrations.py` compares what they make
with the tables that the services declare.
"""

from alembic import context
from sqlalchemy import Connection

connection: Connection = context.config.attributes["connection"]

# Each migration commits by itself: a long one must not hold the locks of those before it.
context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
