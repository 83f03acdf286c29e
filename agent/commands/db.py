"""`db`: looks through the agent's database, prints what it holds, makes its file small again.

`check` and `export` read only, also while the agent runs, and take a file that was
put aside as well; `vacuum` wants the agent stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from agent.commands import EXIT_OK, EXIT_UNUSABLE, EXIT_WRONG
from agent.commands.findings import Finding, tell
from agent.commands.span import add_span, instant_text
from agent.config import AgentConfig, ConfigError
from agent.status_file import is_running, read_status
from agent.store.ballast import BALLAST_FILE
from agent.store.connection import StoreDamaged
from agent.store.export import FIELDS, Export
from agent.store.identity import IdentityDamaged, read_identity
from agent.store.opening import DAMAGED_FILE, DATABASE_FILE, IDENTITY_FILE, QUARANTINE
from agent.store.salvage import UNREADABLE
from agent.store.survey import Survey, look_through, read_only

_MIB: Final = 1 << 20
_SHOWN_FLAWS: Final = 10
_EVER_UTC_S: Final = 1 << 40


def add(parser: argparse.ArgumentParser) -> None:
    """The actions and their words."""
    actions = parser.add_subparsers(
        required=True, metavar="ACTION", dest="action", help="check, export or vacuum"
    )
    text = "look through the whole database: is everything what was written?"
    check = _action(actions, "check", text, _check)
    _file(check)
    check.add_argument("--json", action="store_true", help="print JSON")
    text = "print intervals, events or the device log as CSV or JSON"
    export = _action(actions, "export", text, _export)
    export.add_argument("meter", metavar="METER", nargs="*", help="only these (default: all)")
    export.add_argument(
        "--table", choices=tuple(FIELDS), default="intervals", help="what (default: intervals)"
    )
    add_span(export, "the oldest that is there")
    _file(export)
    export.add_argument("--csv", action="store_true", help="print CSV (the default)")
    export.add_argument("--json", action="store_true", help="print a JSON object per row")
    text = "write the database anew, without the pages that hold nothing; stop the agent first"
    vacuum = _action(actions, "vacuum", text, _vacuum)
    vacuum.add_argument("--json", action="store_true", help="print JSON")


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """The chosen action."""
    act: Callable[[AgentConfig, argparse.Namespace], int] = chosen.act
    return act(config, chosen)


def _action(
    actions: Any, name: str, text: str, act: Callable[[AgentConfig, argparse.Namespace], int]
) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    added.add_argument(
        "--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="the configuration"
    )
    added.set_defaults(act=act)
    return added


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="another database, such as one that was put aside (default: the agent's)",
    )


def _path(config: AgentConfig, chosen: argparse.Namespace) -> Path:
    given: Path | None = getattr(chosen, "file", None)
    path = given or config.data_dir / DATABASE_FILE
    if not path.is_file():
        what = "there is no such file" if given else "there is none yet; the agent makes it"
        raise ConfigError(f"db: {path}: {what}")
    return path


# --- check


def _check(config: AgentConfig, chosen: argparse.Namespace) -> int:
    path = _path(config, chosen)
    survey = look_through(path, _pieces_on_terminal())
    findings = [_database(path, survey, config.quota_mib), _rows(survey), _outbox(survey)]
    if chosen.file is None:
        findings += [_identity(config, survey), _aside(config), _ballast(config)]
    findings.append(_flaws(survey))
    return tell(findings, as_json=chosen.json)


def _pieces_on_terminal() -> Callable[[], None]:
    if not sys.stderr.isatty():
        return lambda: None
    pieces = 0

    def show() -> None:
        nonlocal pieces
        pieces += 1
        print(f"\rlooked at {pieces} pieces", end="\r", file=sys.stderr, flush=True)

    return show


def _database(path: Path, survey: Survey, quota_mib: int) -> Finding:
    size = f"{path}: {survey.bytes / _MIB:.1f} MiB of {quota_mib}, {survey.free_share:.0%} free"
    if survey.steps_unknown:
        later = f"{size}; written by a later version too: {', '.join(survey.steps_unknown)}"
        return Finding("database", warning=later)
    if survey.steps_to_come:
        names = ", ".join(survey.steps_to_come)
        return Finding("database", warning=f"{size}; the next start changes its tables: {names}")
    return Finding("database", size)


def _rows(survey: Survey) -> Finding:
    intervals, events, entries = (
        survey.rows.get(name, 0) for name in ("interval", "event", "log_entry")
    )
    span = ""
    if survey.span_utc_s is not None:
        first, last = survey.span_utc_s
        span = f", {instant_text(first)} to {instant_text(last)}"
    said = f"{intervals} intervals of {survey.meters} meters{span}"
    if survey.lost:
        gone = f"{survey.lost} times something without a receipt had to make room"
        return Finding("rows", warning=f"{said}; {gone}: db export --table log")
    return Finding("rows", f"{said}; {events} events, {entries} entries of the device log")


def _outbox(survey: Survey) -> Finding:
    said = f"{survey.waiting} batches wait for a receipt, {survey.uncut} intervals for a batch"
    if survey.oldest_waiting_utc_s is not None:
        said += f"; the oldest ends {instant_text(survey.oldest_waiting_utc_s)}"
    return Finding("outbox", said)


def _identity(config: AgentConfig, survey: Survey) -> Finding:
    path = config.data_dir / IDENTITY_FILE
    try:
        head = read_identity(path, config.common_name)
    except IdentityDamaged as error:
        return Finding("identity", problem=str(error))
    if head is None:
        return Finding("identity", problem=f"{path}: is gone; the next start begins a new stream")
    return Finding("identity", f"stream {head.stream.hex()}, next batch {head.next_seq}")


def _aside(config: AgentConfig) -> Finding:
    if (config.data_dir / DAMAGED_FILE).exists():
        said = (config.data_dir / DAMAGED_FILE).read_text(errors="replace").strip()
        return Finding("put aside", problem=f"the next start puts the database aside: {said}")
    folder = config.data_dir / QUARANTINE
    kept = sorted(folder.glob(f"*/{DATABASE_FILE}")) if folder.is_dir() else []
    if kept:
        said = "what was sound in them was taken over; look with db check --file"
        return Finding("put aside", warning=said, table=tuple(map(str, kept)))
    return Finding("put aside", "none")


def _ballast(config: AgentConfig) -> Finding:
    if (config.data_dir / BALLAST_FILE).exists():
        return Finding("ballast", "there")
    return Finding("ballast", warning="given up: the disk is, or was, full; free space on it")


def _flaws(survey: Survey) -> Finding:
    if not survey.flaws:
        return Finding("content", "all rows and batches are what was written")
    more = len(survey.flaws) - _SHOWN_FLAWS
    table = (*survey.flaws[:_SHOWN_FLAWS], *([f"and {more} more"] if more > 0 else []))
    says = (
        f"{len(survey.flaws)} not what was written; the agent's weekly look finds it, and starts "
        "anew with all that is sound; if it happens again, replace the disk"
    )
    return Finding("content", problem=says, table=table)


# --- export


def _export(config: AgentConfig, chosen: argparse.Namespace) -> int:
    if chosen.json and chosen.csv:
        raise ConfigError("db export: expected one of --csv and --json, came both; leave one out")
    path = _path(config, chosen)
    try:
        with read_only(path) as database:
            export = Export(database)
            unknown = sorted(set(chosen.meter) - export.meters)
            if unknown:
                raise ConfigError(f"db export: {path}: holds nothing of {', '.join(unknown)}")
            _print(chosen, _told(export, chosen))
    except (StoreDamaged, *UNREADABLE) as error:
        print(f"loadscape-agent: {path}: {error}; see db check", file=sys.stderr)
        return EXIT_WRONG
    if export.damaged:
        said = f"of rows that are not what was written, {export.damaged} left out; see db check"
        print(f"loadscape-agent: {path}: {said}", file=sys.stderr)
        return EXIT_WRONG
    return EXIT_OK


def _told(export: Export, chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    first = 0 if chosen.first is None else chosen.first
    last = _EVER_UTC_S if chosen.last is None else chosen.last
    if first > last:
        raise ConfigError("db export: --from lies after --to; exchange them")
    rows = {
        "intervals": lambda: export.intervals(chosen.meter, first, last),
        "events": lambda: export.events(chosen.meter, first, last),
        "log": lambda: export.log(first, last),
    }
    for row in rows[chosen.table]():
        yield dict(zip(_names(chosen.table), (instant_text(row[0]), *row), strict=True))


def _names(table: str) -> tuple[str, ...]:
    """The instant stands there as people write it, too."""
    names = FIELDS[table]
    return (names[0].removesuffix("_s"), *names)


def _print(chosen: argparse.Namespace, rows: Iterator[dict[str, Any]]) -> None:
    if chosen.json:
        for row in rows:
            print(json.dumps(row))
        return
    writer = csv.DictWriter(sys.stdout, _names(chosen.table), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


# --- vacuum


def _vacuum(config: AgentConfig, chosen: argparse.Namespace) -> int:
    path = _path(config, chosen)
    refusal = _why_not(config, path)
    if refusal:
        print(f"loadscape-agent: {path}: {refusal}", file=sys.stderr)
        return EXIT_UNUSABLE
    before = _size(path)
    # Otherwise SQLite writes the copy to the machine's folder for such files, often a small one.
    os.environ["SQLITE_TMPDIR"] = str(config.data_dir)
    from sqlite_utils import Database

    try:
        with closing(sqlite3.connect(path)) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"{verdict}; see db check")
            Database(connection).vacuum()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except UNREADABLE as error:
        print(f"loadscape-agent: {path}: {error}; it is as it was", file=sys.stderr)
        return EXIT_WRONG
    report = {"file": str(path), "before_bytes": before, "after_bytes": _size(path)}
    if chosen.json:
        print(json.dumps(report, indent=1))
    else:
        print(f"{path}: {before / _MIB:.1f} MiB, now {_size(path) / _MIB:.1f} MiB")
    return EXIT_OK


def _why_not(config: AgentConfig, path: Path) -> str | None:
    try:
        status = read_status(config.data_dir)
    except (OSError, ValueError) as error:
        return f"cannot tell whether the agent runs ({error})"
    if status is not None and is_running(status):
        return (
            f"the agent runs (process {status['pid']}) and would have to wait; stop it first: "
            "systemctl stop loadscape-agent"
        )
    free, wanted = shutil.disk_usage(config.data_dir).free, 2 * _size(path)
    if free < wanted:
        return f"needs {wanted / _MIB:.0f} MiB beside it, {free / _MIB:.0f} are free; free some"
    return None


def _size(path: Path) -> int:
    files = (path, path.with_name(f"{path.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
