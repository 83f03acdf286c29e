"""The machine's serial ports: names, drivers, rights, who holds them, and what slows them down."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from agent.line.holders import holders

_BY_ID: Final = Path("/dev/serial/by-id")
_TTYS: Final = Path("/sys/class/tty")
_USB_FACTS: Final = ("idVendor", "idProduct", "manufacturer", "product", "bcdDevice", "speed")


def ports(configured: Sequence[str]) -> dict[str, Any]:
    """The configured ports, and every port of the machine that has a driver."""
    names = _names_by_id()
    devices = {os.path.realpath(path) for path in (*configured, *names)}
    if _TTYS.is_dir():
        devices |= {f"/dev/{tty.name}" for tty in _TTYS.iterdir() if _driver(tty.name)}
    return {
        "configured": [_configured(path) for path in configured],
        "devices": [_device(path, names) for path in sorted(devices) if os.path.exists(path)],
    }


def _names_by_id() -> dict[str, str]:
    """Stable name -> device."""
    if not _BY_ID.is_dir():
        return {}
    return {str(link): os.path.realpath(link) for link in sorted(_BY_ID.iterdir())}


def _configured(path: str) -> dict[str, Any]:
    try:
        status = os.stat(path)
    except OSError as error:
        return {"port": path, "problem": error.strerror}
    return {
        "port": path,
        "device": os.path.realpath(path),
        "character_device": stat.S_ISCHR(status.st_mode),
        "usable_by_this_user": os.access(path, os.R_OK | os.W_OK),
    }


def _device(path: str, names: dict[str, str]) -> dict[str, Any]:
    status = os.stat(path)
    tty = Path(path).name
    return {
        "device": path,
        "by_id": [name for name, device in names.items() if device == path],
        "driver": _driver(tty),
        "usb": _usb(tty),
        "latency_timer_ms": _latency_ms(tty),
        "mode": stat.filemode(status.st_mode),
        "group": _group(status.st_gid),
        "held_by": [_program(holder.command) for holder in holders(path)],
    }


def _driver(tty: str) -> str:
    """The kernel driver behind a tty; empty for consoles and pseudo-terminals."""
    driver = _TTYS / tty / "device" / "driver"
    return os.path.basename(os.path.realpath(driver)) if driver.exists() else ""


def _usb(tty: str) -> dict[str, str]:
    """What the USB adapter says of itself, except its serial number."""
    device = Path(os.path.realpath(_TTYS / tty / "device"))
    for folder in (device, *device.parents):
        if (folder / "idVendor").is_file():
            return {
                fact: (folder / fact).read_text(encoding="utf-8", errors="replace").strip()
                for fact in _USB_FACTS
                if (folder / fact).is_file()
            }
    return {}


def _latency_ms(tty: str) -> int | None:
    """How long an FTDI adapter keeps bytes back, ms; 16 costs each answer that much."""
    file = _TTYS / tty / "device" / "latency_timer"
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _group(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _program(command: str) -> str:
    """A command line without its words, which may hold passwords."""
    return os.path.basename(command.split(maxsplit=1)[0]) if command else "unknown"
