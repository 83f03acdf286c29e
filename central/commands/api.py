"""`loadscape-central api`: the API and the page."""

from __future__ import annotations

from central.commands.options import Parsers


def add(parsers: Parsers) -> None:
    """Declare `api`."""
