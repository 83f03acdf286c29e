"""The DLMS part of the bench: parsing, import, a full line read with a new link for each meter.

No peer is measured beside it: the DLMS libraries under a permissive licence either need a newer
Python than this project does or cannot associate with a password.
"""

from __future__ import annotations

from collections.abc import Iterator

from hil.bench.dlms_import import import_figures
from hil.bench.dlms_parse import parse_figures
from hil.bench.dlms_read import read_figures
from hil.bench.figure import Figure


def dlms_figures() -> Iterator[Figure | str]:
    """All figures, the quick ones first."""
    yield from parse_figures()
    yield from import_figures()
    yield from read_figures()
