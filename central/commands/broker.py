"""`loadscape-central broker-config`: writes a Mosquitto configuration for the tenant."""

from __future__ import annotations

import argparse
from pathlib import Path

from central.collect.broker import write_broker_config
from central.commands.failed import CommandFailed
from central.commands.options import Parsers
from central.keys.place import KeysError


def add(parsers: Parsers) -> None:
    """Declare `broker-config`."""
    parser = parsers.add_parser(
        "broker-config",
        help="write mosquitto.conf and its access list",
        description="Writes a configuration for Mosquitto 2.0.11 or newer: TLS 1.3 with client "
        "certificates only, every device confined to its own topics.",
    )
    parser.add_argument("--keys", type=Path, required=True, metavar="D", help="key directory")
    parser.add_argument("--port", type=int, default=8883, metavar="P", help="default 8883")
    parser.add_argument(
        "--bind", default="127.0.0.1", metavar="ADDRESS",
        help="where to listen (default 127.0.0.1; 0.0.0.0 for all addresses)",
    )  # fmt: skip
    parser.add_argument("--user", help="whom a broker started by root becomes (default: you)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.set_defaults(action=_write)


def _write(options: argparse.Namespace) -> int:
    try:
        conf = write_broker_config(
            options.keys, options.port, options.out, bind=options.bind, user=options.user
        )
    except KeysError as error:
        raise CommandFailed(str(error)) from error
    print(f"run it with: mosquitto -c {conf}")
    return 0
