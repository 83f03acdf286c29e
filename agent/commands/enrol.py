"""`enrol`: makes the device's keys and gets its first certificate for them, by a token."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agent.clock_trust import BUILT_UTC_S
from agent.commands import EXIT_OK, EXIT_UNUSABLE, EXIT_WRONG
from agent.config import AgentConfig
from agent.enrol.enrolled import Validity, broker_of, key_folder_of, provider_of, validity_of
from agent.enrol.est import EnrolmentFailed
from agent.enrol.issue import enrol
from agent.keys.at_rest import KeyringError
from agent.run import clock_of
from agent.status_file import is_running, read_status
from wire.est import EstError, Token, read_token


def add(parser: argparse.ArgumentParser) -> None:
    """The words of the command."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--token", metavar="TOKEN", help="the word that the centre printed")
    source.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="a file that holds it, - for standard input: so it is in no history and no list of "
        "processes",
    )
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="the enrolment server, if it is reached by another address than the token names",
    )
    parser.add_argument(
        "--anew", action="store_true", help="replace the keys of a device that is enrolled"
    )


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """Enrol and say what was done; EXIT_WRONG if no certificate came, nothing is changed then."""
    try:
        token = _token(chosen)
        current = key_folder_of(config.keys).current
        if current is not None and not chosen.anew:
            _tell(config, validity_of(current.tls_certificate), chosen, done=False)
            return EXIT_OK
        _refuse_while_it_runs(config)
    except (EstError, KeyringError, OSError) as error:
        print(f"loadscape-agent: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    try:
        validity = enrol(config, token, chosen.server or token.server, _clock(config))
        _tell(config, validity, chosen, done=True)
    except (EnrolmentFailed, KeyringError, OSError) as error:
        print(f"loadscape-agent: not enrolled: {error}", file=sys.stderr)
        return EXIT_WRONG
    return EXIT_OK


def _refuse_while_it_runs(config: AgentConfig) -> None:
    try:
        status = read_status(config.data_dir)
    except ValueError:
        return
    if status is not None and is_running(status):
        raise KeyringError(
            f"the agent runs (process {status['pid']}) with the keys that would be replaced; "
            "stop it first: systemctl stop loadscape-agent"
        )


def _clock(config: AgentConfig) -> Callable[[], float]:
    """The machine's clock; one without a battery says 1970 at first."""
    clock = clock_of(config)
    floor_utc_s = 0.0 if config.clock_file else float(BUILT_UTC_S)
    return lambda: max(clock.now_utc_s(), floor_utc_s)


def _token(chosen: argparse.Namespace) -> Token:
    if chosen.token_file is None:
        return read_token(chosen.token)
    if str(chosen.token_file) == "-":
        return read_token(sys.stdin.readline())
    text: str = chosen.token_file.read_text(encoding="utf-8", errors="replace")
    return read_token(text)


def _tell(
    config: AgentConfig, validity: Validity, chosen: argparse.Namespace, *, done: bool
) -> None:
    broker = broker_of(config)
    signer = provider_of(config.keys).open(config.keys.sign_key_file)
    until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(validity.not_after_utc_s))
    if chosen.json:
        report = {
            "device": config.common_name,
            "enrolled_now": done,
            "kid": signer.kid.hex(),
            "certificate_ends_utc_s": int(validity.not_after_utc_s),
            "broker": f"{broker.host}:{broker.port}",
        }
        print(json.dumps(report, indent=1))
        return
    if done:
        print(f"enrolled    {config.common_name}")
    else:
        print(f"enrolled    {config.common_name}, already; the token was not used (--anew does)")
    print(f"keys        {config.keys.folder}, device {signer.kid.hex()}")
    print(f"certificate holds until {until} UTC; the running agent renews it")
    print(f"broker      {broker.host}:{broker.port}")
    print("next        loadscape-agent check; systemctl start loadscape-agent")
