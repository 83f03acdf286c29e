"""`loadscape-central run`: collector, loader and API together on one machine.

Nothing is restarted silently: when one of them ends, the others are stopped
and the command fails, so that whoever supervises it (systemd, a person) knows.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from central.commands.options import Parsers, add_config
from central.config import load_config
from central.process import stop_on_signal

log = logging.getLogger("central.run")

PARTS = ("collect", "load", "api")
_STOP_WITHIN_S = 20.0


def add(parsers: Parsers) -> None:
    """Declare `run`."""
    parser = parsers.add_parser(
        "run",
        help="collector, loader and API together",
        description="Starts collect, load, api and, where [enrol] is configured, enrol serve as "
        "child processes. When one ends, all are "
        "stopped and the exit code is 1. Ctrl-C stops them all.",
    )
    add_config(parser)
    parser.set_defaults(action=_run)


def _run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    parts = [[part] for part in PARTS] + ([["enrol", "serve"]] if config.enrol else [])
    commands = {
        words[0]: [sys.executable, "-m", "central.cli", *words, "--config", str(options.config)]
        for words in parts
    }
    return run_together(commands)


def run_together(commands: Mapping[str, Sequence[str]]) -> int:
    """Run the commands until a signal (0) or until one of them ends (1); stop them all."""
    stop = stop_on_signal()
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for part, command in commands.items():
            children[part] = subprocess.Popen(command)
        while not stop.wait(0.2):
            for part, child in children.items():
                if child.poll() is not None:
                    log.error("%s ended (%s); stopping the others", part, _how(child.returncode))
                    return 1
        return 0
    finally:
        _stop(children)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _stop(children: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for child in children.values():
        if child.poll() is None:
            child.terminate()
    until_s = time.monotonic() + _STOP_WITHIN_S
    for part, child in children.items():
        try:
            child.wait(max(0.1, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error("%s did not stop within %.0f s and is killed", part, _STOP_WITHIN_S)
            child.kill()
            child.wait()
