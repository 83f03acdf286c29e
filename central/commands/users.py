"""`loadscape-central users`: who may open the page."""

from __future__ import annotations

import argparse
import getpass
import sys

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
        description="Asks for the password; with standard input from a pipe, reads one line.",
    )
    add_config(adding)
    adding.add_argument("name", metavar="NAME")
    adding.set_defaults(action=_add)


def _add(options: argparse.Namespace) -> int:
    from central.api.users import UserRefused, add_user

    config = load_config(options.config)
    if sys.stdin.isatty():
        password = getpass.getpass(f"password of {options.name}: ")
        if getpass.getpass("once more: ") != password:
            raise CommandFailed("the two passwords differ; nothing was changed; try again")
    else:
        password = sys.stdin.readline().rstrip("\n")
    try:
        new = add_user(config.registry_file, options.name, password)
    except UserRefused as error:
        raise CommandFailed(str(error)) from error
    print(f"{options.name}: {'added' if new else 'has a new password'}")
    return 0
