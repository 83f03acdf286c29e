"""`loadscape-central load`: the loader process."""

from __future__ import annotations

import argparse
import sqlite3

from central.commands.failed import CommandFailed
from central.commands.options import Parsers, add_config
from central.config import load_config
from central.keys.place import KeysError
from central.metrics import MetricSet
from central.process import AlreadyRunning, claimed, metrics_shown, stop_on_signal


def add(parsers: Parsers) -> None:
    """Declare `load`."""
    parser = parsers.add_parser(
        "load",
        help="open batches, keep their readings, refresh the map",
        description="The loader: the only process with epoch keys. Opens what the collector "
        "stored, writes the lake and the map's aggregates.",
    )
    add_config(parser)
    parser.set_defaults(action=_load)


def _load(options: argparse.Namespace) -> int:
    from central.readings.loader import Loader
    from central.readings.mapped import MapRefresh
    from central.readings.query import Readings

    config = load_config(options.config)
    stop = stop_on_signal()
    metrics = MetricSet()
    try:
        with claimed(config, "loader"):
            refresh = MapRefresh(config, Readings(config, threads=1))
            loader = Loader(config, metrics, refresh)
            with metrics_shown(config, "loader", metrics, config.metrics.loader_port):
                loader.run(stop)
            refresh.close()
    except (AlreadyRunning, KeysError) as error:
        raise CommandFailed(str(error)) from error
    except sqlite3.Error as error:
        raise CommandFailed(
            f"{config.data_dir}: journal, loader.db or aggregates.db failed: {error}; nothing is "
            "lost, the journal is loaded again from the lake's watermark after a restart"
        ) from error
    return 0
