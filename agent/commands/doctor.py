"""`doctor`: one file for a support request, with what an engineer asks first and no secret.

Only reads. Works with a configuration that cannot be used as well, since that
may be why support is asked. Names are replaced; which pseudonym stands for
which name is kept beside the bundle, for this machine's user only.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.commands import EXIT_OK, EXIT_UNUSABLE, EXIT_WRONG
from agent.config import ConfigError, load_config

if TYPE_CHECKING:
    from agent.diagnosis.bundle import Part, Situation

NAMES_FILE: Final = "loadscape-doctor.names.json"


def add(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the bundle (default loadscape-doctor-DATE-TIME.tar.gz in this folder)",
    )


def run(chosen: argparse.Namespace) -> int:
    """Write the bundle and say what is in it; EXIT_UNUSABLE if it cannot be written."""
    from agent.diagnosis.bundle import archive, gather
    from agent.diagnosis.redaction import NamesDamaged, Pseudonyms, SecretFound, write_private

    out = chosen.out or Path(time.strftime("loadscape-doctor-%Y%m%d-%H%M%S.tar.gz", time.gmtime()))
    names_file = out.parent / NAMES_FILE
    try:
        if out.exists():
            raise FileExistsError(f"{out}: is there already; remove it or choose another --out")
        pseudonyms = Pseudonyms.load(names_file)
        situation = look(chosen.config)
        parts = gather(situation, pseudonyms)
        pseudonyms.save(names_file)
        write_private(out, archive(parts))
    except SecretFound as error:
        print(f"loadscape-agent: {error}", file=sys.stderr)
        return EXIT_WRONG
    except (NamesDamaged, OSError) as error:
        print(f"loadscape-agent: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    if situation.problem is not None:
        print(f"loadscape-agent: {situation.problem}", file=sys.stderr)
    _print(out, names_file, parts, as_json=chosen.json)
    return EXIT_OK


def look(path: Path) -> Situation:
    """The configuration as far as it can be read."""
    from agent.diagnosis.bundle import Situation

    raw: dict[str, Any] = {}
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        return Situation(path, raw, load_config(path), None)
    except ConfigError as error:
        return Situation(path, raw, None, str(error))
    except (OSError, ValueError) as error:
        return Situation(path, raw, None, f"{path}: {error}")


def _print(out: Path, names_file: Path, parts: tuple[Part, ...], *, as_json: bool) -> None:
    size = out.stat().st_size
    if as_json:
        holds = {part.name: part.says for part in parts}
        shown = {"bundle": str(out), "bytes": size, "names": str(names_file), "holds": holds}
        print(json.dumps(shown, indent=1))
        return
    print(f"{out}: {size / 1024:.0f} KiB for the support request; it holds")
    for part in parts:
        print(f"  {part.name:32} {part.says}")
    print(f"{names_file}: which pseudonym stands for which name; keep it here, do not send it")
