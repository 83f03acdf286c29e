"""`loadscape-central status`: how far the chain is, and what somebody has to look after.

Of keys and certificates it speaks only of those that lie on this machine, which
has its part of them; `keys status` in the office knows of all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from central.commands.failed import CommandFailed
from central.commands.options import Parsers, add_config
from central.config import load_config

if TYPE_CHECKING:
    from central.collect.fleet import DeviceSeen
    from central.config import Config
    from central.keys.place import KeyPlace

_MOST_NAMED = 5


def add(parsers: Parsers) -> None:
    """Declare `status`."""
    parser = parsers.add_parser("status", help="devices, journal, lake, and what needs looking at")
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(action=_status)


def _status(options: argparse.Namespace) -> int:
    from central.collect.fleet import read_fleet
    from central.keys.place import KeyPlace, KeysError
    from central.readings.device_log import find_flaws
    from central.readings.ledger import REASONS, LoaderProgress

    config = load_config(options.config)
    fleet = read_fleet(config.journal_dir)
    sealed = LoaderProgress(config.loader_file).waiting_by_reason()
    flaws = find_flaws(config.device_log_file)
    place, now_utc_s = KeyPlace(config.keys_dir), config.clock().now_utc_s()
    try:
        epoch_keys = _epoch_keys(place, now_utc_s)
        keys_due = [*_keyset_behind(fleet, place), *_keys_due(config, place, now_utc_s)]
        quarantined = _quarantined(place)
    except KeysError as error:
        raise CommandFailed(str(error)) from error
    clones = {seen.device: seen.alarm.what for seen in fleet if seen.alarm}
    broken_logs = sorted({flaw.device for flaw in flaws})
    state = {
        "devices": len(fleet),
        "online": sum(device.online for device in fleet),
        "batches": sum(device.batches for device in fleet),
        "refused": sum(device.refused for device in fleet),
        "alarms": clones,
        "quarantined": quarantined,
        "meter_clocks_off": sum(_clocks_off(device) for device in fleet),
        "unopened": sum(sealed.values()),
        **{f"unopened_{reason}": sealed.get(reason, 0) for reason in REASONS},
        "device_log_flaws": len(flaws),
        "device_logs_broken": broken_logs,
        **epoch_keys,
        "keys_due": keys_due,
        **_lake(config),
    }
    if options.json:
        print(json.dumps(state))
        return 0
    for name, value in state.items():
        print(f"{name:20} {_shown(value)}")
    for alarm in _alarms(clones, quarantined, broken_logs, sealed, keys_due):
        print(f"ALARM: {alarm}")
    return 0


def _shown(value: object) -> object:
    if isinstance(value, Mapping | list):
        return len(value)
    return "none" if value is None else value


def _alarms(
    clones: Mapping[str, str],
    quarantined: Mapping[str, str],
    broken_logs: Sequence[str],
    sealed: Mapping[str, int],
    keys_due: Sequence[str],
) -> Iterator[str]:
    from central.readings.ledger import UNKNOWN

    for device, what in clones.items():
        yield f"{device}: {what}; if nobody restored its card, revoke and enrol it anew"
    for device, why in quarantined.items():
        yield f"{device} is in quarantine since {why}; see loadscape-central enrol status"
    for device in broken_logs:
        yield f"the log of {device} is not whole; loadscape-central log {device} shows it"
    if sealed.get(UNKNOWN, 0):
        yield (
            f"{sealed[UNKNOWN]} batches were written by a later version than this one and "
            "wait sealed; update central, its loader opens them when it starts"
        )
    yield from keys_due


def _quarantined(place: KeyPlace) -> dict[str, str]:
    from central.keys.place import read_devices

    if not place.devices.exists():
        return {}
    return {name: one.quarantined for name, one in read_devices(place).items() if one.quarantined}


def _lake(config: Config) -> dict[str, object]:
    from central.readings.lake import DeltaLake
    from central.readings.loader import LOADER

    lake = DeltaLake(config.lake_dir)
    files = lake.files()
    return {
        "loaded_upto": lake.watermark(LOADER),
        "days": len({file.day for file in files}),
        "rows": sum(file.rows for file in files),
        "files": len(files),
        "last_end_utc_s": max((file.last_end_utc_s for file in files), default=None),
    }


def _clocks_off(device: DeviceSeen) -> int:
    """Meters of a device whose clock is off, as its own state says."""
    clocks = (device.state or {}).get("meter_clocks")
    off = clocks.get("off") if isinstance(clocks, dict) else None
    return off if isinstance(off, int) else 0


def _epoch_keys(place: KeyPlace, now_utc_s: float) -> dict[str, int | None]:
    from central.keys.destruction import due
    from central.keys.epochs import epochs_end_utc_s
    from central.keys.record import EPOCH

    overdue = len(due(place, EPOCH, now_utc_s))
    return {"epochs_end_utc_s": epochs_end_utc_s(place) or None, "epoch_keys_overdue": overdue}


def _keyset_behind(fleet: Sequence[DeviceSeen], place: KeyPlace) -> Iterator[str]:
    """Devices take no receipt whose key is new to them, nor a keyset older than theirs."""
    from central.keys.place import read_keyset

    if not place.keyset.exists():
        return
    here = read_keyset(place).version
    theirs = {seen.device: (seen.state or {}).get("keyset") for seen in fleet}
    ahead = [
        name for name, version in theirs.items() if isinstance(version, int) and version > here
    ]
    if ahead:
        yield (
            f"{len(ahead)} devices ({', '.join(ahead[:_MOST_NAMED])}) know a newer keyset than "
            f"version {here}, which lies here: an old copy was put back, or one of them lies; hand "
            "the newer out (loadscape-central keys hand-out)"
        )


def _keys_due(config: Config, place: KeyPlace, now_utc_s: float) -> Iterator[str]:
    """What is to be done by now about the keys and certificates of this machine."""
    from central.keys.destruction import due
    from central.keys.epochs import epochs_end_utc_s
    from central.keys.record import EPOCH, RECEIPT, day
    from central.keys.schedule import authority_end, renewal

    end_s = epochs_end_utc_s(place)
    if end_s and end_s - EPOCH.overlap_s <= now_utc_s:
        yield (
            f"the last epoch key here ends on {day(end_s)}, agents seal nothing from then on; make "
            "the next and take it to the root (loadscape-central keys rotate)"
        )
    for purpose, then in (
        (EPOCH, "the loader's log says why not"),
        (RECEIPT, "loadscape-central keys destroy does it"),
    ):
        overdue = len(due(place, purpose, now_utc_s))
        if overdue:
            yield f"{overdue} {purpose.name} keys should have been destroyed; {then}"
    parts = (("collector", config.broker.cert_file), ("broker", place.broker_certificate))
    tasks = [renewal(part, path) for part, path in parts if path.exists()]
    if place.authority_certificate.exists():
        tasks.append(authority_end(place.authority_certificate))
    for task in tasks:
        if task.due_utc_s <= now_utc_s:
            yield f"{task.what}, in the office: loadscape-central {task.command}"
