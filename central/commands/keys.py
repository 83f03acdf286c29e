"""`loadscape-central keys`: the whole life of a tenant's keys.

Each action is a function in one of the modules of this folder whose names
begin with `keys_`; all answer in words or, with --json, as one JSON object.
"""

from __future__ import annotations

from central.commands import keys_devices, keys_folder, keys_root, keys_rotation
from central.commands.options import Parsers

_EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 (status, inventory) something is due "
    "or not as it should be. docs/keys.md tells who does what, when and where."
)


def add(parsers: Parsers) -> None:
    """Declare `keys` and what follows it."""
    keys = parsers.add_parser(
        "keys",
        help="make, sign, hand out, rotate, revoke and destroy keys; enrol devices",
        description="Makes and keeps one tenant's keys. Run it on a machine off the network.",
        epilog=_EXIT_CODES,
    )
    verbs = keys.add_subparsers(title="what to do", required=True, metavar="ACTION")
    for module in (keys_devices, keys_rotation, keys_root, keys_folder):
        module.add(verbs)
