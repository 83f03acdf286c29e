"""`--from` and `--to` of the commands that read what a meter has recorded."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime

from agent.config import ConfigError
from wire.clock import Clock

DAY_S = 86_400


def add_span(parser: argparse.ArgumentParser, default: str) -> None:
    """The two words; `default` says what is printed without `--from`."""
    ends = "ISO 8601, UTC unless it has a zone"
    parser.add_argument(
        "--from", type=_instant, dest="first", metavar="TIME", help=f"{ends} (default {default})"
    )
    parser.add_argument(
        "--to", type=_instant, dest="last", metavar="TIME", help=f"{ends} (default now)"
    )


def span_of(chosen: argparse.Namespace, clock: Clock, default_s: int) -> tuple[int, int]:
    """First and last second (UTC), `default_s` long without `--from`; raises ConfigError."""
    last = int(clock.now_utc_s()) if chosen.last is None else chosen.last
    first = last - default_s if chosen.first is None else chosen.first
    if first > last:
        raise ConfigError(f"{chosen.name}: --from lies after --to; exchange them")
    return first, last


def instant_text(utc_s: int) -> str:
    """ISO 8601 in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(utc_s))


def _instant(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected ISO 8601, such as 2026-03-28T12:00Z"
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
