"""SQL, the truth: tables, one unit of work, one store per noun, migrations.

``Database`` is the only thing the floors above hold; everything else is reached through the
transaction it opens. SQLite and PostgreSQL serve the same verbs and pass the same suite.
"""

from storage.database.database import Database
from storage.database.transaction import Transaction

__all__ = ["Database", "Transaction"]
