"""`loadscape-central collect`: the collector process."""

from __future__ import annotations

import argparse
import sqlite3
import ssl

from central.commands.failed import CommandFailed
from central.commands.options import Parsers, add_config
from central.config import load_config
from central.keys.place import KeysError
from central.metrics import MetricSet
from central.process import AlreadyRunning, claimed, metrics_shown, stop_on_signal


def add(parsers: Parsers) -> None:
    """Declare `collect`."""
    parser = parsers.add_parser(
        "collect",
        help="take sealed batches from the broker and answer with receipts",
        description="The collector: checks who sent a batch, stores it sealed, answers with a "
        "signed receipt. It holds no key that opens a batch.",
    )
    add_config(parser)
    parser.set_defaults(action=_collect)


def _collect(options: argparse.Namespace) -> int:
    from central.collect.collector import Collector, CollectorRefused
    from central.collect.journal import JournalError

    config = load_config(options.config)
    stop = stop_on_signal()
    metrics = MetricSet()
    try:
        with claimed(config, "collector"):
            collector = Collector(config, metrics)
            with metrics_shown(config, "collector", metrics, config.metrics.collector_port):
                collector.run(stop)
    except ssl.SSLError as error:
        raise CommandFailed(
            f"{options.config}, [broker] ca_file, cert_file, key_file: not usable: {error}; "
            "name the files that keys init made"
        ) from error
    except (AlreadyRunning, KeysError, JournalError, CollectorRefused) as error:
        raise CommandFailed(str(error)) from error
    except sqlite3.Error as error:
        raise CommandFailed(
            f"{config.journal_dir}: the journal cannot be written: {error}; nothing that was not "
            "committed has been acknowledged; make room or mend the disk and start again"
        ) from error
    return 0
