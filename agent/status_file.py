"""`status.json`: what the running agent said of itself last, and whether it still runs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from agent.health import Faults
from agent.store.identity import replace_file

STATUS_FILE = "status.json"
STATUS_AGE_S = 15.0
"""A status older than this was left by an agent that runs no more, or hangs."""


def read_status(data_dir: Path) -> dict[str, Any] | None:
    """The last `status.json`, None if there is none; raises ValueError if it is damaged."""
    try:
        text = (data_dir / STATUS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        status = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{data_dir / STATUS_FILE}: not JSON: {error}; restart the agent"
        ) from error
    if not isinstance(status, dict):
        raise ValueError(f"{data_dir / STATUS_FILE}: expected a JSON object; restart the agent")
    return status


def write_status(data_dir: Path, status: dict[str, Any], faults: Faults) -> None:
    """Replace it; where it cannot be written, that is a fault and the old one stays."""
    text = json.dumps(status, indent=1)
    try:
        replace_file(data_dir / STATUS_FILE, text.encode(), durable=False)
    except OSError as error:
        # No reason to end: what is read is kept by the store, which makes room for itself.
        faults.report("status", f"{data_dir / STATUS_FILE}: {error}; free space on the disk")
    else:
        faults.over("status")


def is_running(status: dict[str, Any]) -> bool:
    """Whether the agent that wrote this status still runs: it said so lately, and its pid lives."""
    if not status.get("running") or time.time() - status.get("written_utc_s", 0) > STATUS_AGE_S:
        return False
    try:
        os.kill(int(status["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
