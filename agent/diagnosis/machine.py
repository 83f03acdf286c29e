"""What the machine is and how it is doing: system, processor, memory, disk, clock, versions.

Read from /proc, /sys and the standard library; nothing is changed. What a
machine does not tell is left out.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sqlite3
import ssl
import time
from pathlib import Path
from typing import Any, Final

_PROC: Final = Path("/proc")
_SYS: Final = Path("/sys")
_PACKAGES: Final = ("loadscape", "pyserial", "paho-mqtt", "cryptography", "pymodbus")
_MEMORY: Final = ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")
_UNSYNCHRONISED: Final = 5
"""TIME_ERROR of adjtimex(2): the kernel's clock is not synchronised."""


def versions() -> dict[str, str]:
    """Of the agent, of what it uses, of the interpreter; "not installed" where it is not."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {
        **found,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "openssl": ssl.OPENSSL_VERSION,
        "kernels": _kernels(),
    }


def machine(data_dir: Path | None) -> dict[str, Any]:
    """System, board, processor, memory, load, temperatures, and the disk of `data_dir`."""
    uname = os.uname()
    return {
        "system": _release(),
        "kernel": f"{uname.sysname} {uname.release} {uname.machine}",
        "board": _line(_PROC / "device-tree" / "model").rstrip("\0"),
        "processors": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "uptime_s": round(time.clock_gettime(time.CLOCK_BOOTTIME)),
        "memory_kib": _memory(),
        "pressure": {what: _line(_PROC / "pressure" / what) for what in ("cpu", "io", "memory")},
        "temperatures_c": _temperatures(),
        "disk": _disk(data_dir),
        "user": {"uid": os.getuid(), "groups": _groups()},
        "service": _service(),
    }


def clock(shown_utc_s: float | None) -> dict[str, Any]:
    """What time it is here, and whether anything keeps it right.

    `shown_utc_s` is the agent's own clock where that is another one.
    """
    now_utc_s = time.time()
    return {
        "system_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_utc_s)),
        "agent_ahead_s": None if shown_utc_s is None else round(shown_utc_s - now_utc_s, 3),
        "zone": time.strftime("%Z %z", time.localtime(now_utc_s)),
        "kernel": _kernel_clock(),
        "hardware_ahead_s": _hardware_ahead_s(now_utc_s),
    }


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2) up to the fields used here; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_char * 256),
    )


def _kernel_clock() -> dict[str, Any]:
    """Whether the kernel's clock is kept right, and by how much it may be wrong at most."""
    timex = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0:
        return {"problem": os.strerror(ctypes.get_errno())}
    return {
        "synchronised": state != _UNSYNCHRONISED,
        "greatest_error_ms": round(timex.maxerror / 1000, 1),
    }


def _hardware_ahead_s(now_utc_s: float) -> float | None:
    """How far the battery's clock is ahead; None where the board has none."""
    text = _line(_SYS / "class" / "rtc" / "rtc0" / "since_epoch")
    return round(int(text) - now_utc_s, 1) if text.isdecimal() else None


def _kernels() -> str:
    """Which kernels run; without the compiled ones the agent is right, and slower."""
    from importlib.util import find_spec

    if os.environ.get("LOADSCAPE_PURE") == "1":
        return "pure Python, as LOADSCAPE_PURE asks"
    return "compiled" if find_spec("ext._checksum") is not None else "missing"


def _release() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _memory() -> dict[str, int]:
    fields = (line.split(":", 1) for line in _lines(_PROC / "meminfo"))
    return {name: int(rest.split()[0]) for name, rest in fields if name in _MEMORY}


def _temperatures() -> dict[str, float]:
    found = {}
    for zone in sorted((_SYS / "class" / "thermal").glob("thermal_zone*")):
        text = _line(zone / "temp")
        if text.lstrip("-").isdecimal():
            found[_line(zone / "type") or zone.name] = int(text) / 1000
    return found


def _disk(data_dir: Path | None) -> dict[str, Any]:
    if data_dir is None:
        return {}
    folder = data_dir.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        return {"problem": str(error)}
    return {"total_mib": usage.total >> 20, "free_mib": usage.free >> 20, **_mounted(folder)}


def _mounted(folder: Path) -> dict[str, str]:
    """File system and options of the mount that holds `folder`."""
    mounts = [line.split() for line in _lines(_PROC / "mounts")]
    holding = [fields for fields in mounts if len(fields) > 3 and folder.is_relative_to(fields[1])]
    if not holding:
        return {}
    fields = max(holding, key=lambda fields: len(fields[1]))
    return {"filesystem": fields[2], "options": fields[3]}


def _groups() -> list[str]:
    import grp

    names = []
    for gid in {os.getgid(), *os.getgroups()}:
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            names.append(str(gid))
    return sorted(names)


def _service() -> str:
    """What systemd says of the agent's service; empty where there is no systemd."""
    import subprocess

    words = ["systemctl", "show", "loadscape-agent", "--property=ActiveState,SubState,NRestarts"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return " ".join(said.stdout.split())


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _line(path: Path) -> str:
    """The file's first line; empty where the machine has no such file."""
    return next(iter(_lines(path)), "")
