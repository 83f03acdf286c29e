"""`loadscape-central status`: how far the chain is."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from central.commands.options import Parsers, add_config
from central.config import load_config

if TYPE_CHECKING:
    from central.collect.fleet import DeviceSeen
    from central.config import Config


def add(parsers: Parsers) -> None:
    """Declare `status`."""
    parser = parsers.add_parser("status", help="devices, journal, lake")
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(action=_status)


def _clocks_off(device: DeviceSeen) -> int:
    """Meters of a device whose clock is off, as its own state says."""
    clocks = (device.state or {}).get("meter_clocks")
    off = clocks.get("off") if isinstance(clocks, dict) else None
    return off if isinstance(off, int) else 0


def _epoch_keys(config: Config) -> tuple[dict[str, object], list[str]]:
    """Whether epoch keys of this machine end or outlive their day, and the alarms of that."""
    from central.keys.destruction import due
    from central.keys.epochs import epochs_end_utc_s
    from central.keys.place import KeyPlace
    from central.keys.record import EPOCH, day

    place, now_utc_s = KeyPlace(config.keys_dir), config.clock().now_utc_s()
    end_s, overdue = epochs_end_utc_s(place), len(due(place, EPOCH, now_utc_s))
    alarms = []
    if end_s and end_s - EPOCH.overlap_s <= now_utc_s:
        alarms.append(
            f"the last epoch key here ends on {day(end_s)}, agents seal nothing from then on; make "
            "the next and take it to the root (loadscape-central keys rotate)"
        )
    if overdue:
        alarms.append(
            f"{overdue} epoch keys should have been destroyed; the loader's log says why not"
        )
    return {"epochs_end_utc_s": end_s or None, "epoch_keys_overdue": overdue}, alarms


def _status(options: argparse.Namespace) -> int:
    from central.collect.fleet import read_fleet
    from central.readings.device_log import find_flaws
    from central.readings.lake import DeltaLake
    from central.readings.ledger import UNKNOWN, LoaderProgress
    from central.readings.loader import LOADER

    config = load_config(options.config)
    fleet = read_fleet(config.journal_dir)
    lake = DeltaLake(config.lake_dir)
    sealed = LoaderProgress(config.loader_file).waiting_by_reason()
    files = lake.files()
    flaws = find_flaws(config.device_log_file)
    epoch_keys, epoch_alarms = _epoch_keys(config)
    alarms = {seen.device: seen.alarm.what for seen in fleet if seen.alarm}
    state = {
        "devices": len(fleet),
        "online": sum(device.online for device in fleet),
        "batches": sum(device.batches for device in fleet),
        "refused": sum(device.refused for device in fleet),
        "alarms": alarms,
        "loaded_upto": lake.watermark(LOADER),
        "meter_clocks_off": sum(_clocks_off(device) for device in fleet),
        "unopened": sum(sealed.values()),
        "unopened_unknown": sealed.get(UNKNOWN, 0),
        "device_log_flaws": len(flaws),
        **epoch_keys,
        "days": len({file.day for file in files}),
        "rows": sum(file.rows for file in files),
        "files": len(files),
        "last_end_utc_s": max((file.last_end_utc_s for file in files), default=None),
    }
    if options.json:
        print(json.dumps(state))
        return 0
    for name, value in {**state, "alarms": len(alarms)}.items():
        print(f"{name:16} {'none' if value is None else value}")
    for device, what in alarms.items():
        print(f"ALARM: {device}: {what}; if nobody restored its card, revoke and enrol it anew")
    for device in sorted({flaw.device for flaw in flaws}):
        print(f"ALARM: the log of {device} is not whole; loadscape-central log {device} shows it")
    if sealed.get(UNKNOWN, 0):
        print(
            f"ALARM: {sealed[UNKNOWN]} batches were written by a later version than this one and "
            "wait sealed; update central, its loader opens them when it starts"
        )
    for what in epoch_alarms:
        print(f"ALARM: {what}")
    return 0
