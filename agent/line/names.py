"""Names of serial ports that stay the same when adapters are plugged in another order.

The kernel numbers USB adapters as they come: /dev/ttyUSB0 may be another line
after a power cut. udev keeps links under /dev/serial/by-id, made from maker,
product and serial number of the adapter.
"""

from __future__ import annotations

import os
from pathlib import Path

BY_ID = Path("/dev/serial/by-id")


def stable_names() -> dict[str, str]:
    """Every by-id name that is there now -> the device that it leads to; empty without udev."""
    try:
        links = sorted(BY_ID.iterdir())
    except OSError:
        return {}
    return {str(link): os.path.realpath(link) for link in links}


def stable_name(path: str) -> str | None:
    """The by-id name of the device at `path`; None where there is none, or `path` is one."""
    if Path(path).parent == BY_ID:
        return None
    device = os.path.realpath(path)
    return next((name for name, target in stable_names().items() if target == device), None)
