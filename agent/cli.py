"""`loadscape-agent`: run it, check its configuration, read one meter, scan a line, see its status.

Exit codes: 0 all is well; 1 something is wrong that the output names; 2 the
command or the configuration cannot be used; 3 no agent is running (`status`).
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.commands import EXIT_OK, EXIT_UNUSABLE, EXIT_WRONG, check, read, scan, status
from agent.config import AgentConfig, ConfigError, load_config

_DEFAULT_CONFIG = Path("/etc/loadscape/agent.toml")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        config = load_config(chosen.config)
        return int(chosen.command(config, chosen))
    except ConfigError as error:
        print(f"loadscape-agent: {error}", file=sys.stderr)
        return EXIT_UNUSABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loadscape-agent",
        description="Reads meters on serial lines and delivers sealed 15-minute intervals.",
        epilog="Exit codes: 0 well, 1 something is wrong, 2 unusable command or configuration, "
        "3 no agent is running (status).",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=_DEFAULT_CONFIG,
        metavar="FILE",
        help=f"the configuration (default {_DEFAULT_CONFIG})",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(commands, "run", "read the meters until SIGTERM or Ctrl-C", _run)
    _json(_add(commands, "check", "say what is wrong with configuration, keys, ports", check.run))
    reading = _add(commands, "read", "read one meter now and print what it shows", read.run)
    read.add(_json(reading))
    scanning = _add(commands, "scan", "say who answers on a line and which models fit", scan.run)
    scan.add(_json(scanning))
    _json(_add(commands, "status", "show how the running agent is doing", status.run))
    return parser


def _add(
    commands: Any, name: str, text: str, command: Callable[[AgentConfig, argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    # Also after the command, where one looks for it; SUPPRESS keeps what was given before.
    parser.add_argument(
        "--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="the configuration"
    )
    parser.set_defaults(command=command)
    return parser


def _json(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


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
