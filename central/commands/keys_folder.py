"""`keys status`, `inventory`, `hand-out`, `backup`, `restore`: the key directory as a whole."""

from __future__ import annotations

import argparse
import getpass
from pathlib import Path

from central.commands.keys_options import (
    SOMETHING_DUE,
    action,
    add_clock,
    add_dir,
    answer,
    now_utc_s,
    place_of,
)
from central.commands.options import Parsers
from central.keys.backup import restore, write_backup
from central.keys.inventory import PARTS, Found, hand_out, inventory
from central.keys.place import KeysError, read_keyset
from central.keys.record import day, destroy_at_utc_s
from central.keys.schedule import KeyState, Task, key_states, tasks


def add(verbs: Parsers) -> None:
    """Declare the actions."""
    status = action(verbs, "status", _status, "show all keys and what is due when")
    add_dir(status)
    add_clock(status)

    listing = action(verbs, "inventory", _inventory, "show which file is what and who needs it")
    add_dir(listing, root=True)

    out = action(verbs, "hand-out", _hand_out, "copy what one part of the centre needs, no more")
    add_dir(out)
    parts = ", ".join(f"{part} ({does})" for part, does in PARTS.items())
    out.add_argument("part", choices=sorted(PARTS), help=f"whose: {parts}")
    out.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    out.add_argument(
        "--move", action="store_true", help="wipe the secrets here that it alone needs"
    )

    backup = action(verbs, "backup", _backup, "write the key directory to one encrypted file")
    add_dir(backup)
    backup.add_argument("--out", type=Path, required=True, metavar="FILE")
    backup.add_argument(
        "--without-epoch-keys", action="store_true",
        help="so that it can be kept for ever; what is sealed cannot be opened with it",
    )  # fmt: skip
    _add_passphrase(backup)

    back = action(verbs, "restore", _restore, "bring a key directory back from its backup")
    add_dir(back)
    back.add_argument("backup", type=Path, metavar="FILE", help="what keys backup wrote")
    _add_passphrase(back)
    add_clock(back)


def _status(options: argparse.Namespace) -> int:
    place, now_s = place_of(options), now_utc_s(options)
    keyset, states, to_do = read_keyset(place), key_states(place, now_s), tasks(place)
    overdue = [task for task in to_do if task.due_utc_s <= now_s]
    fields = {
        "tenant": keyset.tenant,
        "keyset": keyset.version,
        "keys": [_key_row(state) for state in states],
        "tasks": [_task_row(task, now_s) for task in to_do],
    }
    lines = [
        f"tenant {keyset.tenant}, keyset version {keyset.version}",
        "",
        *map(_key_line, states),
    ]
    lines += ["", *(_task_line(task, now_s) for task in to_do)]
    answer(options, fields, "\n".join(lines))
    return SOMETHING_DUE if overdue else 0


def _key_row(state: KeyState) -> dict[str, object]:
    record = state.record
    return {
        "purpose": state.purpose.name,
        "kid": record.kid.hex(),
        "state": state.state,
        "algorithm": record.algorithm,
        "not_before_utc_s": record.not_before_utc_s,
        "not_after_utc_s": record.not_after_utc_s,
        "destroy_utc_s": destroy_at_utc_s(record, state.purpose),
        "destroyed_utc_s": record.destroyed_utc_s,
    }


def _key_line(state: KeyState) -> str:
    record = state.record
    gone_s = record.destroyed_utc_s
    end = (
        f"destroyed {day(gone_s)}"
        if gone_s is not None
        else f"to be destroyed {day(destroy_at_utc_s(record, state.purpose))}"
    )
    return (
        f"{state.purpose.name:8} {record.kid.hex()}  {state.state:18} "
        f"{day(record.not_before_utc_s)} to {day(record.not_after_utc_s)}, {end}"
    )


def _task_row(task: Task, now_s: float) -> dict[str, object]:
    due = task.due_utc_s <= now_s
    return {
        "due_utc_s": task.due_utc_s, "due": due, "what": task.what, "command": task.command,
    }  # fmt: skip


def _task_line(task: Task, now_s: float) -> str:
    when = "now       " if task.due_utc_s <= now_s else day(task.due_utc_s)
    return f"{when}  {task.what} (loadscape-central {task.command})"


def _inventory(options: argparse.Namespace) -> int:
    found = inventory(place_of(options))
    if not found:
        raise KeysError(f"{options.dir}: no files there; see keys init")
    answer(options, {"files": list(map(_file_row, found))}, "\n".join(map(_file_line, found)))
    return SOMETHING_DUE if any(file.exposed or file.kind is None for file in found) else 0


def _file_row(file: Found) -> dict[str, object]:
    kind = file.kind
    return {
        "file": str(file.path),
        "holds": None if kind is None else kind.holds,
        "secret": kind is not None and kind.secret,
        "needed_by": [] if kind is None else sorted(kind.needed_by),
        "exposed": file.exposed,
    }


def _file_line(file: Found) -> str:
    if file.kind is None:
        return f"{file.path}: not a file of a key directory; look what it is"
    secret = "SECRET, " if file.kind.secret else ""
    exposed = "; OTHERS CAN READ IT: chmod 600" if file.exposed else ""
    needed = ", ".join(sorted(file.kind.needed_by))
    return f"{file.path}: {secret}{file.kind.holds}; needed by {needed}{exposed}"


def _hand_out(options: argparse.Namespace) -> int:
    copied = hand_out(place_of(options), options.part, options.out, move=options.move)
    fields = {"part": options.part, "files": [str(path) for path in copied]}
    wiped = "; its own secrets are wiped here" if options.move else ""
    text = f"{len(copied)} files of the {options.part}, which {PARTS[options.part]}, are in "
    return answer(options, fields, f"{text}{options.out}{wiped}")


def _backup(options: argparse.Namespace) -> int:
    written = write_backup(
        place_of(options),
        options.out,
        _passphrase(options, again=True),
        epoch_keys=not options.without_epoch_keys,
    )
    fields = {"files": written.files, "destroy_by_utc_s": written.destroy_by_utc_s}
    by = written.destroy_by_utc_s
    last = (
        "it holds no epoch key"
        if by is None
        else f"it holds epoch keys: destroy it by {day(by)} and make another"
    )
    return answer(options, fields, f"{written.files} files are in {options.out}; {last}")


def _restore(options: argparse.Namespace) -> int:
    left_out = restore(
        options.backup, options.dir, _passphrase(options), now_utc_s=now_utc_s(options)
    )
    fields = {"dir": str(options.dir), "left_out": [kid.hex() for kid in left_out]}
    text = f"the keys are in {options.dir}; {len(left_out)} private halves stay destroyed"
    return answer(options, fields, text)


def _add_passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE",
        help="its first line is the passphrase (default: asks for it)",
    )  # fmt: skip


def _passphrase(options: argparse.Namespace, *, again: bool = False) -> str:
    if options.passphrase_file is not None:
        lines = options.passphrase_file.read_text().splitlines()
        return lines[0] if lines else ""
    passphrase = getpass.getpass("passphrase: ")
    if again and getpass.getpass("once more: ") != passphrase:
        raise KeysError("the two passphrases differ; nothing was written")
    return passphrase
