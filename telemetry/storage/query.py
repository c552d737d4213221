"""Questions in SQL, on a connection that cannot write."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import DBAPIError

from telemetry.errors import UsageError
from telemetry.storage.store import open_store

CONTENTS = "SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"


def is_complete(query: str) -> bool:
    """Tell whether a query has come to its semicolon."""
    return sqlite3.complete_statement(query)


async def select(path: str, query: str) -> tuple[list[str], Sequence[Any]]:
    """Return column names and rows. Raises UsageError for a query that SQLite refuses."""
    async with await open_store(path, create=False, read_only=True) as store, store.engine.connect() as c:
        try:
            result = await c.exec_driver_sql(query)
        except DBAPIError as error:
            why = str(error.orig).rstrip(".")
            raise UsageError(f"The query was refused: {why}. Give one SELECT; the store is read-only here.") from error
        if not result.returns_rows:
            raise UsageError("The query returns no rows. Give one SELECT.")
        names = list(result.keys())
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"Two columns are named {', '.join(twice)}. Tell them apart with AS.")
        return names, result.fetchall()
