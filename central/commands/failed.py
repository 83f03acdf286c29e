"""How a command says that it could not do its work."""

from __future__ import annotations


class CommandFailed(Exception):
    """The message says what was expected, what came, where, and what to do."""
