"""`loadscape-agent`: run it, check its configuration, read one meter, scan a line, see its status.

Exit codes: 0 all is well; 1 something is wrong that the output names; 2 the
command or the configuration cannot be used; 3 no agent is running (`status`).
"""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.config import AgentConfig, ConfigError, load_config

EXIT_OK = 0
EXIT_WRONG = 1
EXIT_UNUSABLE = 2
EXIT_NOT_RUNNING = 3

_DEFAULT_CONFIG = Path("/etc/loadscape/agent.toml")
_STATUS_AGE_S = 15
_MOST_ADDRESS = 16383


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
    _add(commands, "run", _run, "read the meters until SIGTERM or Ctrl-C", json_too=False)
    _add(commands, "check", _check, "say what is wrong with configuration, keys and ports")
    read = _add(commands, "read", _read, "read one meter now and print what it shows")
    read.add_argument("meter", metavar="METER", help="the id of a [[meter]]")
    read.add_argument(
        "--hours",
        type=int,
        default=1,
        metavar="N",
        help="rows of the load profile, if the meter keeps one (default 1 hour)",
    )
    scan = _add(commands, "scan", _scan, "say which addresses answer on a line")
    scan.add_argument("line", metavar="LINE", help="the name of a [[line]]")
    scan.add_argument(
        "--addresses",
        type=_address_range,
        default=range(1, 33),
        metavar="FIRST-LAST",
        help="units, or on a DLMS line physical addresses (default 1-32)",
    )
    scan.add_argument(
        "--model", metavar="MODEL", help="model to try (default: the line's first meter's)"
    )
    _add(commands, "status", _status, "show how the running agent is doing")
    return parser


def _add(
    commands: Any, name: str, command: Any, text: str, *, json_too: bool = True
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    # Also after the command, where one looks for it; SUPPRESS keeps what was given before.
    parser.add_argument(
        "--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="the configuration"
    )
    if json_too:
        parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=command)
    return parser


# --- run


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


# --- check


def _check(config: AgentConfig, chosen: argparse.Namespace) -> int:
    findings = [*_check_keys(config), *_check_tls(config), *_check_lines(config)]
    findings.append(_check_folder(config))
    wrong = [finding for finding in findings if finding["problem"]]
    if chosen.json:
        print(json.dumps({"ok": not wrong, "findings": findings}, indent=1))
    else:
        for finding in findings:
            mark = "wrong" if finding["problem"] else "ok"
            print(f"{mark:5} {finding['what']}" + (f": {finding['problem'] or ''}").rstrip(": "))
    return EXIT_WRONG if wrong else EXIT_OK


def _finding(what: str, problem: object = None) -> dict[str, str | None]:
    return {"what": what, "problem": None if problem is None else str(problem)}


def _check_keys(config: AgentConfig) -> list[dict[str, str | None]]:
    from agent.keyring import KeyringError
    from agent.run import clock_of, keyring_of

    try:
        keyring = keyring_of(config)
        keyring.epoch_key(clock_of(config).now_utc_s())
        return [_finding(f"keys, keyset {keyring.version}, device {keyring.signer.kid.hex()}")]
    except (KeyringError, OSError, ValueError) as error:
        return [_finding("keys", error)]


def _check_tls(config: AgentConfig) -> list[dict[str, str | None]]:
    from agent.publish import tls_context

    broker = config.broker
    for path in (broker.ca_file, broker.cert_file, broker.key_file):
        if not path.is_file():
            return [_finding("certificates", f"{path}: does not exist; enrol the device")]
    try:
        tls_context(broker)
    except OSError as error:
        return [_finding("certificates", error)]
    return [_finding("certificates")]


def _check_lines(config: AgentConfig) -> list[dict[str, str | None]]:
    from agent.drivers import build_driver, open_line
    from agent.line.port import PortLost
    from agent.run import clock_of

    findings = []
    try:
        clock = clock_of(config)
    except (OSError, ValueError) as error:
        return [_finding("clock_file", error)]
    for line in config.lines:
        port = open_line(line)
        try:
            port.open()
            findings.append(_finding(f"line {line.name} ({line.port})"))
        except PortLost as error:
            findings.append(_finding(f"line {line.name}", error))
        finally:
            port.close()
        for meter in config.meters_of(line.name):
            try:
                build_driver(config, line, meter, port, clock)
            except ConfigError as error:
                findings.append(_finding(f"meter {meter.id}", error))
    findings.append(_finding(f"{len(config.meters)} meters on {len(config.lines)} lines"))
    return findings


def _check_folder(config: AgentConfig) -> dict[str, str | None]:
    what = f"data_dir {config.data_dir}"
    folder = config.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        return _finding(what, f"{folder}: cannot be written; chown it to the agent's user")
    return _finding(what)


# --- read and scan


def _read(config: AgentConfig, chosen: argparse.Namespace) -> int:
    from agent.driver import ReadError
    from agent.field import profile_lines, read_meter, sample_lines
    from agent.line.port import PortLost

    meter = next((meter for meter in config.meters if meter.id == chosen.meter), None)
    if meter is None:
        near = difflib.get_close_matches(chosen.meter, [meter.id for meter in config.meters])
        hint = f"did you mean {', '.join(near)}?" if near else "see the [[meter]] tables"
        raise ConfigError(f"meter {chosen.meter!r} is not configured; {hint}")
    try:
        sample, rows = read_meter(config, meter, max(0, chosen.hours))
    except (ReadError, PortLost) as error:
        print(f"loadscape-agent: {error}", file=sys.stderr)
        return EXIT_WRONG
    if chosen.json:
        print(json.dumps({"sample": asdict(sample), "profile": [asdict(r) for r in rows]}))
        return EXIT_OK
    for text in (*sample_lines(meter, sample), *profile_lines(rows)):
        print(text)
    return EXIT_OK


def _scan(config: AgentConfig, chosen: argparse.Namespace) -> int:
    from agent.field import scan_line
    from agent.line.port import PortLost

    line = next((line for line in config.lines if line.name == chosen.line), None)
    if line is None:
        raise ConfigError(f"line {chosen.line!r} is not configured; see the [[line]] tables")
    found = []
    try:
        for answer in scan_line(config, line, chosen.addresses, chosen.model, _say_asked):
            found.append(answer)
            if not chosen.json:
                print(f"{answer.address:8} {answer.what}", flush=True)
    except PortLost as error:
        print(f"loadscape-agent: {error}", file=sys.stderr)
        return EXIT_WRONG
    if chosen.json:
        answers = [asdict(answer) for answer in found]
        print(json.dumps({"line": line.name, "protocol": line.protocol, "found": answers}))
    elif not found:
        print(f"no answer on {line.name}; check wiring, baud rate and parity")
    return EXIT_OK if found else EXIT_WRONG


def _say_asked(address: str) -> None:
    """Progress on a terminal only: a log wants results."""
    if sys.stderr.isatty():
        print(f"\rasking {address:8}\r", end="", file=sys.stderr, flush=True)


def _address_range(text: str) -> range:
    first, _, last = text.partition("-")
    try:
        addresses = range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected FIRST-LAST, such as 1-32") from None
    if not addresses or addresses[0] < 1 or addresses[-1] > _MOST_ADDRESS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected addresses from 1 to {_MOST_ADDRESS}")
    return addresses


# --- status


def _status(config: AgentConfig, chosen: argparse.Namespace) -> int:
    from agent.run import read_status

    try:
        status = read_status(config.data_dir)
    except (OSError, ValueError) as error:
        print(f"loadscape-agent: {error}", file=sys.stderr)
        return EXIT_WRONG
    if status is None:
        print(f"no agent has run with data_dir {config.data_dir}", file=sys.stderr)
        return EXIT_NOT_RUNNING
    running = bool(status.get("running")) and (
        time.time() - float(status.get("written_utc_s", 0)) < _STATUS_AGE_S
    )
    if chosen.json:
        print(json.dumps({**status, "running": running}, indent=1))
    else:
        _print_status(status, running)
    if not running:
        return EXIT_NOT_RUNNING
    return EXIT_WRONG if status.get("faults") else EXIT_OK


def _print_status(status: dict[str, Any], running: bool) -> None:
    recovery = status["recovery"]
    share = recovery["known"] / recovery["expected"] if recovery["expected"] else 1.0
    age = status["receipt_age_s"]
    print(f"{status['device']}: {'running' if running else 'not running'}")
    print(f"broker      {'connected' if status['connected'] else 'not connected'}")
    print(f"outbox      {status['outbox']} batches wait for a receipt")
    print(f"receipt     {'none yet' if age is None else f'{age} s old'}")
    print(f"recovered   {share:.1%} of the last days from the meters' own profiles")
    for line in status["lines"]:
        failing = f", not answering: {', '.join(line['failing'])}" if line["failing"] else ""
        print(f"line        {line['name']}: {'open' if line['open'] else 'closed'}{failing}")
    for key, message in status["faults"].items():
        print(f"fault       {key}: {message}")


if __name__ == "__main__":
    sys.exit(main())
