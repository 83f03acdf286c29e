"""Loads a compiled kernel, or its pure twin where LOADSCAPE_PURE=1 asks for it."""

from __future__ import annotations

import importlib
import os
from types import ModuleType


class KernelNotBuilt(ImportError):
    """A compiled kernel is missing."""


def kernel(name: str) -> ModuleType:
    """The kernel `name`; raises KernelNotBuilt rather than running slowly unasked."""
    if os.environ.get("LOADSCAPE_PURE") == "1":
        return importlib.import_module(f"ext.{name}_pure")
    try:
        return importlib.import_module(f"ext._{name}")
    except ModuleNotFoundError as error:
        raise KernelNotBuilt(
            f"the compiled kernel ext._{name} is not there; run ./dev setup to build it, or set "
            "LOADSCAPE_PURE=1 to run the slow pure-Python twin"
        ) from error
