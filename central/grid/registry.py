"""registry.db: grid, assets and accounts in one SQLite file, with named migrations.

Every migration is one function, applied in one transaction together with the
record that it was applied. The tables of the grid follow the published
schemas column by column; `NULL` is an empty field of the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from central.grid.table_schema import TableSchema, schema

TABLES = (
    "town",
    "transformers",
    "assets",
    "lines",
    "service_points",
    "meters",
    "chargers",
    "plants",
    "climate",
)
"""The tables of the grid in the order in which they are read."""


class RegistryMissing(FileNotFoundError):
    """There is no registry.db yet."""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open (and make or migrate) the registry; one process writes at a time, others wait 10 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    _migrate(connection)
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the registry without any right to change it.

    Raises RegistryMissing when the file is not there.
    """
    if not path.exists():
        raise RegistryMissing(f"{path}: expected the registry, there is no such file; {_REMEDY}")
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)


_REMEDY = "load a grid first: loadscape-central grid load DIR"


def _grid_tables(connection: sqlite3.Connection) -> None:
    for name in TABLES:
        connection.execute(_create(schema(name)))
    connection.execute(
        "CREATE TABLE grid_version ("
        " only_row INTEGER PRIMARY KEY CHECK (only_row = 1),"
        " version TEXT NOT NULL, loaded_at_utc_s INTEGER NOT NULL)"
    )


def _users_table(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE users ("
        " name TEXT PRIMARY KEY, salt BLOB NOT NULL, scrypt BLOB NOT NULL,"
        " added_at_utc_s INTEGER NOT NULL) WITHOUT ROWID"
    )


_MIGRATIONS: tuple[tuple[str, Callable[[sqlite3.Connection], None]], ...] = (
    ("grid_tables", _grid_tables),
    ("users_table", _users_table),
)


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)")
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        applied = {name for (name,) in connection.execute("SELECT name FROM migrations")}
        for name, migration in _MIGRATIONS:
            if name not in applied:
                migration(connection)
                connection.execute("INSERT INTO migrations VALUES (?)", (name,))


def _create(table: TableSchema) -> str:
    columns = []
    for field in table.fields:
        column = f'"{field.name}" {_SQL_TYPES[field.type]}'
        if field.name == table.primary_key:
            column += " PRIMARY KEY"
        if field.required:
            column += " NOT NULL"
        columns.append(column)
    if table.name == "lines":
        columns.append('"geometry" TEXT NOT NULL')
    return f'CREATE TABLE "{table.name}" ({", ".join(columns)})'


_SQL_TYPES = {
    "string": "TEXT",
    "number": "REAL",
    "integer": "INTEGER",
    "boolean": "INTEGER",
    "date": "TEXT",
    "array": "TEXT",
}
