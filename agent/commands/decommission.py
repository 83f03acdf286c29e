"""`decommission`: erases the device's keys and all that it holds of the meters, for good."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, TextIO

from agent.commands import EXIT_OK, EXIT_UNUSABLE, EXIT_WRONG
from agent.config import AgentConfig
from agent.enrol import decommission
from agent.keys.erasure import erase_free_space
from agent.status_file import is_running, read_status

_MIB = 1 << 20


def add(parser: argparse.ArgumentParser) -> None:
    """The words of the command."""
    parser.add_argument("--yes", action="store_true", help="erase without asking")
    parser.add_argument(
        "--keep-free-space",
        action="store_true",
        help="do not overwrite what is free on the disk, where earlier files may have left "
        "readings: only for a disk that is encrypted or will be destroyed",
    )


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """Ask, erase, say what is gone; EXIT_WRONG if something is left or could not be erased."""
    status = _last_status(config)
    if status is not None and is_running(status):
        print(
            f"loadscape-agent: the agent runs (process {status['pid']}) and would write anew; "
            "stop it first: systemctl disable --now loadscape-agent",
            file=sys.stderr,
        )
        return EXIT_UNUSABLE
    if not chosen.yes and not _sure(config, status, sys.stderr):
        return EXIT_UNUSABLE
    erased: list[Path] = []
    overwritten, discarded = 0, not chosen.keep_free_space
    try:
        for path in decommission.erase(config):
            erased.append(path)
            if not chosen.json:
                print(f"erased      {path}", flush=True)
        if not chosen.keep_free_space:
            if not chosen.json:
                print("free space  is overwritten; that takes a while", flush=True)
            for folder in decommission.file_systems(config):
                count, told = erase_free_space(folder)
                overwritten, discarded = overwritten + count, discarded and told
    except OSError as error:
        where = error.filename or config.data_dir
        print(
            f"loadscape-agent: {where}: cannot be erased ({error.strerror}); run the command as "
            "root, and again: it goes on where it was",
            file=sys.stderr,
        )
        return EXIT_WRONG
    left = decommission.left_in(config)
    report = {
        "device": config.common_name,
        "erased": [str(path) for path in erased],
        "overwritten_bytes": overwritten,
        "discarded": discarded,
        "left": [str(path) for path in left],
    }
    _tell(config, report, chosen)
    return EXIT_WRONG if left else EXIT_OK


def _last_status(config: AgentConfig) -> dict[str, Any] | None:
    try:
        return read_status(config.data_dir)
    except (OSError, ValueError):
        # Whatever it said: it is to be erased.
        return None


def _sure(config: AgentConfig, status: dict[str, Any] | None, out: TextIO) -> bool:
    for path in decommission.held(config):
        print(f"will erase  {path}", file=out)
    if status is not None and status.get("outbox"):
        print(f"lost        {status['outbox']} batches that central has not signed for", file=out)
    print(f"Type {config.common_name} to erase all of it: ", end="", file=out, flush=True)
    if sys.stdin.readline().strip() == config.common_name:
        return True
    print("loadscape-agent: nothing was erased", file=sys.stderr)
    return False


def _tell(config: AgentConfig, report: dict[str, Any], chosen: argparse.Namespace) -> None:
    if chosen.json:
        print(json.dumps(report, indent=1))
        return
    if chosen.keep_free_space:
        print("free space  was not overwritten: earlier files may have left readings there")
    else:
        discarded = "and discarded" if report["discarded"] else "the medium discards no blocks"
        print(f"free space  {report['overwritten_bytes'] / _MIB:.0f} MiB overwritten, {discarded}")
    for path in report["left"]:
        print(f"left        {path}: not the agent's; remove it")
    print(f"left        {config.places.path}: names the meters, holds no reading")
    print(f"at central  loadscape-central keys revoke --device {config.device}")
