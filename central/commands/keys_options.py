"""What all `keys` actions share: the folder, the root, the clock, and how they answer."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from central.commands.failed import CommandFailed
from central.commands.options import Parsers, add_keys
from central.keys.place import KeyPlace, KeysError
from wire.clock import SharedClock
from wire.topics import TopicError

SOMETHING_DUE = 3
"""Exit code of a report that has found something to be done."""


def action(
    verbs: Parsers, name: str, work: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """Declare one action with --dir and --json; what it raises becomes a message."""

    def run(options: argparse.Namespace) -> int:
        try:
            return work(options)
        except (KeysError, TopicError) as error:
            raise CommandFailed(str(error)) from error
        except FileNotFoundError as error:
            raise CommandFailed(
                f"{error.filename}: not there; {parser.prog} --help says which file is meant"
            ) from error

    parser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    parser.set_defaults(action=run)
    return parser


def add_dir(parser: argparse.ArgumentParser, *, root: bool = False) -> None:
    """`--dir`, and `--root` for what the root may sign at once."""
    add_keys(parser)
    if root:
        parser.add_argument(
            "--root",
            type=Path,
            metavar="R",
            help="folder of the root's own files, for example on a removable disk (default: "
            "root/ below --dir; where it is not at hand, the change waits for keys request)",
        )


def add_clock(parser: argparse.ArgumentParser) -> None:
    """`--clock-file`, the shared clock of a demo or bench."""
    parser.add_argument(
        "--clock-file", type=Path, metavar="FILE", help="shared clock of a demo or bench"
    )


def now_utc_s(options: argparse.Namespace) -> float:
    """The time that holds for these keys."""
    return SharedClock(options.clock_file).now_utc_s() if options.clock_file else time.time()


def place_of(options: argparse.Namespace) -> KeyPlace:
    """The key directory, with the root's folder where one is named."""
    return KeyPlace(options.dir, getattr(options, "root", None))


def answer(options: argparse.Namespace, fields: Mapping[str, object], text: str) -> int:
    """Say what was done."""
    print(json.dumps(fields) if options.json else text)
    return 0


def signed_or_waiting(options: argparse.Namespace, version: int | None) -> str:
    """What became of a change that the root has to sign."""
    if version is None:
        return (
            "it counts when the root has signed it: loadscape-central keys request "
            f"--dir {options.dir}"
        )
    return f"keyset version {version} is in force"
