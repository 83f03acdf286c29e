"""What an agent with DLMS meters pays for the code at its start."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Final

from hil.bench.figure import Figure

LIMIT_MS: Final = 60.0
HEAVY: Final = "cryptography"
"""Must not be loaded before a ciphered meter appears: it takes megabytes and tens of ms."""
_IMPORT: Final = "import agent.dlms.driver"
_ROUNDS: Final = 15


class HeavyImport(Exception):
    """The DLMS driver loads at once what only ciphered meters need."""


def import_figures() -> Iterator[Figure]:
    """`dlms.import_ms`: import of the driver in a fresh interpreter, less the interpreter's start.

    Raises HeavyImport if `cryptography` comes with it.
    """
    if loads(HEAVY):
        raise HeavyImport(f"`{_IMPORT}` loads {HEAVY}; expected it with a ciphered meter only")
    bare_s, whole_s = [], []
    with tempfile.TemporaryDirectory() as bytecode:
        # An agent is installed with its bytecode: nothing is compiled at its start.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        _cpu_s(_IMPORT, environment)
        for _ in range(_ROUNDS):
            bare_s.append(_cpu_s("pass", environment))
            whole_s.append(_cpu_s(_IMPORT, environment))
    yield Figure("dlms.import_ms", 1000 * (min(whole_s) - min(bare_s)), "ms CPU", LIMIT_MS)


def loads(module: str) -> bool:
    """Whether the import of the driver brings `module` with it."""
    asked = f"{_IMPORT}, sys; print({module!r} in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", asked], check=True, capture_output=True, text=True
    ).stdout
    return told.strip() == "True"


def _cpu_s(code: str, environment: dict[str, str]) -> float:
    """CPU, so that others on this machine count less; what must be read from disk is cached."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
