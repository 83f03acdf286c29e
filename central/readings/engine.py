"""DuckDB in-process as the query engine over exact lists of Parquet files.

It keeps no database file. The SQL texts in `sql/` keep to what DuckDB, Spark
and Sail understand alike; they see one view, `readings`, and parameters
written `:name`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa

from central.readings.lake import SCHEMA

_SQL = Path(__file__).parent / "sql"


class DuckDbEngine:
    """Any thread may ask; each question has a cursor of its own."""

    def __init__(self, threads: int = 2) -> None:
        self._database = duckdb.connect(":memory:", config={"threads": threads})

    def query(self, name: str, files: Sequence[str], **values: int | str) -> pa.Table:
        """The answer of sql/`name`.sql over `files`; KeyError if there is no such text."""
        text = _text(name)
        with self._database.cursor() as cursor:
            if files:
                listed = ", ".join(_quoted(path) for path in files)
                cursor.execute(
                    "create or replace temp view readings as "
                    f"select * from read_parquet([{listed}], hive_partitioning = false)"
                )
            else:
                cursor.register("readings", SCHEMA.empty_table())
            return cursor.sql(text, params=values).to_arrow_table()


@cache
def _text(name: str) -> str:
    path = _SQL / f"{name}.sql"
    if not path.exists():
        raise KeyError(
            f"no curated query {name!r}; there are {sorted(p.stem for p in _SQL.glob('*.sql'))}"
        )
    return re.sub(r"(?<!:):([a-z_]+)", r"$\1", path.read_text())


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "''") + "'"
