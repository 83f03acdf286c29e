"""Checks rows of text or JSON against a Frictionless Table Schema.

Covers what the schemas in `schemas/` use: the types string, number, integer,
boolean, date and array; the constraints required, unique, enum, pattern,
minimum, maximum, minLength and maxLength; one-column primary and foreign keys.
It reports every problem it finds and never repairs a value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

SCHEMA_DIR = Path(__file__).parent / "schemas"

Value = str | int | float | bool | list[object] | None
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a file is refused; `row` counts as in the file, its heading being row 1."""

    file: str
    row: int | None
    column: str | None
    reason: str

    def __str__(self) -> str:
        place = self.file
        if self.row is not None:
            place += f", row {self.row}"
        if self.column is not None:
            place += f", column {self.column}"
        return f"{place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a table."""

    name: str
    type: str
    required: bool
    unique: bool
    enum: tuple[str, ...] | None
    pattern: re.Pattern[str] | None
    minimum: float | None
    maximum: float | None
    length: tuple[int, float]


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One published table: its file, its columns in order and its keys."""

    name: str
    path: str
    fields: tuple[Field, ...]
    primary_key: str | None
    foreign_keys: tuple[tuple[str, str, str], ...]
    """(column, other table, other column)"""

    def index(self, column: str) -> int:
        """Position of a column in a row."""
        return [field.name for field in self.fields].index(column)


@cache
def schema(name: str) -> TableSchema:
    """The published schema of one table, from `schemas/`."""
    description = json.loads((SCHEMA_DIR / f"{name}.json").read_text(encoding="utf-8"))
    primary_key = description.get("primaryKey")
    return TableSchema(
        name=description["name"],
        path=description["path"],
        fields=tuple(_field(entry, primary_key) for entry in description["fields"]),
        primary_key=primary_key,
        foreign_keys=tuple(
            (key["fields"], key["reference"]["resource"], key["reference"]["fields"])
            for key in description.get("foreignKeys", ())
        ),
    )


def check_row(
    table: TableSchema, values: Mapping[str, object], row: int | None
) -> tuple[Row, list[Problem]]:
    """One row as typed values in schema order, with all that is wrong in it."""
    typed: list[Value] = []
    problems = []
    for field in table.fields:
        value, reason = _typed(field, values.get(field.name))
        typed.append(value)
        if reason is not None:
            problems.append(Problem(table.path, row, field.name, reason))
    return tuple(typed), problems


def check_keys(
    table: TableSchema, rows: Sequence[Row], row_numbers: Sequence[int]
) -> list[Problem]:
    """Values that must be unique in their column and are not."""
    problems = []
    for position, field in enumerate(table.fields):
        if not field.unique:
            continue
        first_row: dict[Value, int] = {}
        for row, number in zip(rows, row_numbers, strict=True):
            value = row[position]
            if value is None or isinstance(value, list):
                continue
            if value in first_row:
                reason = f"{value!r} stands in row {first_row[value]} already; it must be unique"
                problems.append(Problem(table.path, number, field.name, reason))
            else:
                first_row[value] = number
    return problems


def check_references(
    table: TableSchema,
    rows: Sequence[Row],
    row_numbers: Sequence[int],
    tables: Mapping[str, Sequence[Row]],
) -> list[Problem]:
    """Values that name a row of another table which does not exist."""
    problems = []
    for column, other, other_column in table.foreign_keys:
        position = table.index(column)
        other_schema = schema(other)
        other_position = other_schema.index(other_column)
        known = {row[other_position] for row in tables[other]}
        for row, number in zip(rows, row_numbers, strict=True):
            value = row[position]
            if value is not None and value not in known:
                reason = f"no row of {other_schema.path} has the {other_column} {value!r}"
                problems.append(Problem(table.path, number, column, reason))
    return problems


def _field(entry: Mapping[str, object], primary_key: str | None) -> Field:
    constraints = entry.get("constraints", {})
    assert isinstance(constraints, dict)
    name = str(entry["name"])
    pattern = constraints.get("pattern")
    enum = constraints.get("enum")
    return Field(
        name=name,
        type=str(entry["type"]),
        required=bool(constraints.get("required", False)),
        unique=bool(constraints.get("unique", False)) or name == primary_key,
        enum=None if enum is None else tuple(enum),
        pattern=None if pattern is None else re.compile(pattern),
        minimum=constraints.get("minimum"),
        maximum=constraints.get("maximum"),
        length=(constraints.get("minLength", 0), constraints.get("maxLength", math.inf)),
    )


def _typed(field: Field, came: object) -> tuple[Value, str | None]:
    if came is None or came == "":
        return None, "is empty, a value is required" if field.required else None
    try:
        value = _READERS[field.type](came)
    except (TypeError, ValueError):
        return None, f"expected {_EXPECTED[field.type]}, came {came!r}"
    if field.enum is not None and value not in field.enum:
        return None, f"expected one of {', '.join(field.enum)}, came {value!r}"
    if isinstance(value, str) and field.pattern is not None and not field.pattern.fullmatch(value):
        return None, f"{value!r} does not match {field.pattern.pattern}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if field.minimum is not None and value < field.minimum:
            return None, f"{value} is below {field.minimum}, the least that can be true"
        if field.maximum is not None and value > field.maximum:
            return None, f"{value} is above {field.maximum}, the most that can be true"
    if isinstance(value, list) and not field.length[0] <= len(value) <= field.length[1]:
        return None, f"expected {field.length[0]} entries, came {len(value)}"
    return value, None


def _string(came: object) -> str:
    if not isinstance(came, (str, int)) or isinstance(came, bool):
        raise TypeError
    return str(came)


def _number(came: object) -> float:
    if isinstance(came, bool) or not isinstance(came, (str, int, float)):
        raise TypeError
    value = float(came)
    if not math.isfinite(value):
        raise ValueError
    return value


def _integer(came: object) -> int:
    if isinstance(came, bool) or not isinstance(came, (str, int)):
        raise TypeError
    return int(came)


def _boolean(came: object) -> bool:
    if isinstance(came, bool):
        return came
    if came in ("true", "false"):
        return came == "true"
    raise ValueError


def _date(came: object) -> str:
    if not isinstance(came, str):
        raise TypeError
    return date.fromisoformat(came).isoformat()


def _array(came: object) -> list[object]:
    if not isinstance(came, list):
        raise TypeError
    return came


_READERS: dict[str, Callable[[object], Value]] = {
    "string": _string,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "date": _date,
    "array": _array,
}
_EXPECTED = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "date": "a date such as 2024-05-31",
    "array": "a list",
}
