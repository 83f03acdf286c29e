"""`loadscape-central users`: who may log in to the page."""

from __future__ import annotations

import argparse
import getpass
import sys

from central.api.users import UserRefused, add_user
from central.commands.failed import CommandFailed
from central.commands.options import Parsers, add_config
from central.config import load_config


def add(parsers: Parsers) -> None:
    """Declare `users`."""
    users = parsers.add_parser("users", help="accounts of the page")
    verbs = users.add_subparsers(title="what to do", required=True, metavar="ACTION")
    adding = verbs.add_parser(
        "add",
        help="add an account or give it a new password",
        description="Asks for the password on the terminal, or reads one line from standard input.",
    )
    add_config(adding)
    adding.add_argument("name", metavar="NAME", help="letters, digits and . _ @ -")
    adding.set_defaults(action=_add)


def _add(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    try:
        new = add_user(config.registry_file, options.name, _password())
    except UserRefused as error:
        raise CommandFailed(str(error)) from error
    print(f"{options.name}: {'account added' if new else 'new password set'}")
    return 0


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise UserRefused("expected the same password twice, they differ; try again")
    return password
