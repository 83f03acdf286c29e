"""Where each key of `agent.toml` stands, so that an error can point at it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_HEADER = re.compile(r"\s*\[\[?\s*([A-Za-z0-9_.-]+)\s*\]\]?")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")

Place = tuple[str, int, str | None]
"""Table, position among its namesakes, key; key None is the table's header."""


@dataclass(frozen=True, slots=True)
class Places:
    """The file and the line of each of its keys."""

    path: Path = Path("agent.toml")
    lines: Mapping[Place, int] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, text: str) -> Places:
        """The places in `text`; a file that is not TOML has some as well."""
        return cls(path, _line_numbers(text))

    def line(self, table: str, index: int, key: str | None) -> int | None:
        """The line of a key, or of its table's header if the key is not there."""
        return self.lines.get((table, index, key)) or self.lines.get((table, index, None))

    def name(self, table: str, index: int, key: str | None) -> str:
        """For the head of a message: `agent.toml:22: [line] port`."""
        line = self.line(table, index, key)
        where = f"{self.path}:{line}" if line else str(self.path)
        return f"{where}: [{table}] {key}" if key else f"{where}: [{table}]"


def _line_numbers(text: str) -> dict[Place, int]:
    table, index = "", 0
    counts: dict[str, int] = {}
    numbers: dict[Place, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = header.group(1)
            index = counts.get(table, 0)
            counts[table] = index + 1
            numbers[table, index, None] = number
        elif key := _KEY.match(line):
            numbers.setdefault((table, index, key.group(1)), number)
    return numbers
