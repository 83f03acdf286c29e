"""`status.json`: what the running agent said of itself last, and whether it still runs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

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
