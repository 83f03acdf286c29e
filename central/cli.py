"""`loadscape-central`: keys, broker configuration, grid, and the three processes of the centre.

Exit codes: 0 done, 1 failed, 2 the command line or the configuration is wrong.
Each sub-command is a module of `central.commands` with `add(parsers)`; it imports
what it runs only when it runs, so that the collector does not carry the API's weight.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from central.commands import (
    api,
    broker,
    collect,
    enrol,
    grid,
    keys,
    load,
    log,
    meter,
    run,
    status,
    users,
)
from central.commands.failed import CommandFailed
from central.config import ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        return int(options.action(options))
    except ConfigError as error:
        print(f"loadscape-central: {error}", file=sys.stderr)
        return 2
    except (CommandFailed, OSError) as error:
        print(f"loadscape-central: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="loadscape-central",
        description="Loadscape's centre: collects sealed batches, keeps readings, draws the map.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong command line or configuration.",
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (keys, enrol, broker, grid, users, collect, load, api, run, status, meter, log):
        module.add(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
