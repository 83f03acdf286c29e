"""One decoder under atheris: `python -m hil.fuzz.child NAME WORDS…`, the words being libFuzzer's.

The agent's and the wire's modules are instrumented as they are imported, so
inputs that reach new branches are kept and built upon. An exception that the
decoder may not raise ends the process; libFuzzer has written the input then.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import atheris

INSTRUMENTED = ["agent", "wire"]


def main(arguments: Sequence[str]) -> None:
    """Fuzz until libFuzzer ends the process."""
    logging.disable(logging.CRITICAL)
    name, *words = arguments
    with atheris.instrument_imports(include=INSTRUMENTED):
        from hil.fuzz.decoders import decoders

        decoder = decoders()[name]

    def take(data: bytes) -> None:
        decoder.refused(data)

    atheris.Setup([sys.argv[0], *words], take)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
