"""`loadscape-agent`: run it, and what one types beside it; docs/field-commands.md shows each.

Exit codes: 0 all is well; 1 something is wrong that the output names; 2 the
command or the configuration cannot be used; 3 no agent is running (`status`);
130 ended by Ctrl-C before it was done.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.commands import (
    EXIT_OK,
    EXIT_UNUSABLE,
    EXIT_WRONG,
    check,
    clock,
    db,
    decommission,
    doctor,
    enrol,
    events,
    profile,
    read,
    scan,
    status,
    trace,
)
from agent.config import AgentConfig, ConfigError, load_config

_DEFAULT_CONFIG = Path("/etc/loadscape/agent.toml")
_EXIT_INTERRUPTED = 130
"""Ctrl-C, as shells report it; `read --watch` and `trace` end well by it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    chosen = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        return int(chosen.command(chosen))
    except ConfigError as error:
        print(f"loadscape-agent: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # `| head` has seen enough; without this Python complains again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def parser() -> argparse.ArgumentParser:
    """All commands with their words and their help."""
    whole = argparse.ArgumentParser(
        prog="loadscape-agent",
        description="Reads meters on serial lines and delivers sealed 15-minute intervals.",
        epilog="Exit codes: 0 well, 1 something is wrong, 2 unusable command or configuration, "
        "3 no agent is running (status).",
    )
    whole.add_argument(
        "--config",
        type=Path,
        default=_DEFAULT_CONFIG,
        metavar="FILE",
        help=f"the configuration (default {_DEFAULT_CONFIG})",
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND", dest="name")
    _add(commands, "run", "read the meters until SIGTERM or Ctrl-C", _with_config(_run))
    text = "make the device's keys and get its first certificate by a token of the centre"
    enrol.add(_json(_add(commands, "enrol", text, _with_config(enrol.run))))
    checking = _with_config(check.run)
    _json(_add(commands, "check", "say what is wrong with configuration, keys, ports", checking))
    text = "say who answers on a line and which models fit"
    scan.add(_json(_add(commands, "scan", text, _with_config(scan.run))))
    text = "read one meter now and print what it shows"
    read.add(_json(_add(commands, "read", text, _with_config(read.run))))
    text = "print the rows of a DLMS meter's load profile"
    profile.add(_json(_add(commands, "profile", text, _with_config(profile.run))))
    text = "print the entries of a DLMS meter's event logs"
    events.add(_json(_add(commands, "events", text, _with_config(events.run))))
    text = "compare a DLMS meter's clock with this machine's, and set it where that is allowed"
    clock.add(_json(_add(commands, "clock", text, _with_config(clock.run))))
    text = "read a meter or a line's meters and show every frame with its verdict"
    trace.add(_json(_add(commands, "trace", text, _with_config(trace.run))))
    text = "look through the agent's database, print what it holds, make its file small"
    db.add(_add(commands, "db", text, _with_config(db.run)))
    text = "erase keys and readings for good, before the device leaves its site"
    decommission.add(_json(_add(commands, "decommission", text, _with_config(decommission.run))))
    _json(_add(commands, "status", "show how the running agent is doing", _with_config(status.run)))
    text = "write one file for a support request, without secrets and names"
    doctor.add(_json(_add(commands, "doctor", text, doctor.run)))
    return whole


def _add(
    commands: Any, name: str, text: str, command: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    # Also after the command, where one looks for it; SUPPRESS keeps what was given before.
    added.add_argument(
        "--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="the configuration"
    )
    added.set_defaults(command=command)
    return added


def _with_config(
    command: Callable[[AgentConfig, argparse.Namespace], int],
) -> Callable[[argparse.Namespace], int]:
    """A command that needs a configuration that can be used."""
    return lambda chosen: command(load_config(chosen.config), chosen)


def _json(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
    added.add_argument("--json", action="store_true", help="print JSON")
    return added


def _run(config: AgentConfig, _: argparse.Namespace) -> int:
    from agent.keyring import KeyringError
    from agent.run import Agent, AgentFailed, stop_on_signals

    try:
        agent = Agent(config)
    except (KeyringError, OSError) as error:
        print(f"loadscape-agent: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    stop_on_signals(agent)
    try:
        agent.run()
    except (AgentFailed, OSError) as error:
        print(f"loadscape-agent: {error}", file=sys.stderr)
        return EXIT_WRONG
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
