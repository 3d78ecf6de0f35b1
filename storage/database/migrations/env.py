"""What Alembic runs to apply revisions: always on a connection that ``upgrade`` hands over."""

from alembic import context

from storage.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
