"""`keys request`, `sign`, `take`: the way to an offline root and back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from central.commands.failed import CommandFailed
from central.commands.keys_options import action, add_dir, answer, place_of
from central.commands.options import Parsers
from central.durable import PUBLIC, write_file
from central.keys.place import KeysError
from central.keys.root import (
    Asked,
    Difference,
    make_request,
    read_request,
    sign_asked,
    take_keyset,
    waiting,
)


def add(verbs: Parsers) -> None:
    """Declare the actions."""
    request = action(verbs, "request", _request, "write down what the root is asked to sign")
    add_dir(request)
    request.add_argument("--out", type=Path, required=True, metavar="FILE", help="the request")

    sign = action(verbs, "sign", _sign, "sign what a request asks for; this alone needs the root")
    sign.add_argument("request", type=Path, metavar="REQUEST", help="what keys request wrote")
    sign.add_argument("--root", type=Path, required=True, metavar="R", help="the root's folder")
    sign.add_argument("--out", type=Path, required=True, metavar="FILE", help="the signed keyset")
    sign.add_argument(
        "--yes", action="store_true", help="do not ask; whoever gives it has compared before"
    )

    take = action(verbs, "take", _take, "put a signed keyset into force")
    add_dir(take)
    take.add_argument("keyset", type=Path, metavar="FILE", help="what keys sign wrote")


def _request(options: argparse.Namespace) -> int:
    place = place_of(options)
    found = waiting(place)
    if not found:
        raise KeysError(f"{options.dir}: nothing waits for the root; the keyset says it all")
    write_file(options.out, make_request(place), PUBLIC)
    lines = [f"{options.out} asks the root for:", *_lines(found), "take it there: keys sign"]
    return answer(
        options, {"request": str(options.out), "asks_for": _rows(found)}, "\n".join(lines)
    )


def _sign(options: argparse.Namespace) -> int:
    asked = read_request(options.root, options.request.read_bytes())
    if not options.yes:
        _compare(asked)
    write_file(options.out, sign_asked(options.root, asked), PUBLIC)
    version = asked.keyset.version
    fields = {"keyset": version, "signed": _rows(asked.differences), "file": str(options.out)}
    text = f"keyset version {version} is signed, in {options.out}; take it back: keys take"
    return answer(options, fields, text)


def _take(options: argparse.Namespace) -> int:
    version = take_keyset(place_of(options), options.keyset.read_bytes())
    return answer(options, {"keyset": version}, f"keyset version {version} is in force")


def _compare(asked: Asked) -> None:
    """Have a person say that this is what the key office asked for."""
    print(f"tenant {asked.keyset.tenant}, keyset version {asked.keyset.version}:", file=sys.stderr)
    print("\n".join(_lines(asked.differences)), file=sys.stderr)
    print("The same as keys request has shown? Type yes: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise CommandFailed("not signed; nothing has changed")


def _rows(found: Sequence[Difference]) -> list[dict[str, str]]:
    return [{"what": difference.what, "kid": difference.kid.hex()} for difference in found]


def _lines(found: Sequence[Difference]) -> list[str]:
    return [f"  {difference.what}  (id {difference.kid.hex()})" for difference in found]
