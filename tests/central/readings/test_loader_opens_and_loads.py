"""The loader: rows exactly once, what does not open stays sealed and is reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from loader_bench import MIDNIGHT, NOW, ROSTER, Bench, interval, unopened

from central.cli import main
from central.keys.authority import rotate_epoch
from central.keys.destruction import destroy
from central.keys.place import KeyPlace, read_keyset
from central.keys.record import EPOCH, read_records
from central.keys.root import settle
from central.keys.rotation import add_key
from central.readings.events import read_events
from central.readings.lake import DeltaLake
from central.readings.ledger import LoaderProgress
from central.readings.loader import FILES_PER_DAY, LOADER
from central.readings.query import Readings
from wire.block import Roster, RosterEntry, encode_block
from wire.cbor_rows import encode_rows
from wire.channels import PROFILE_SCHEMA, SAMPLED_SCHEMA
from wire.envelope import CBOR_ROWS, EVENTS, read_header
from wire.events import Event, encode_events
from wire.quality import Quality
from wire.suites import MLKEM768_X25519


def test_rows_come_out_as_they_went_in(bench: Bench) -> None:
    bench.store(bench.device.cut(ROSTER, interval(0) + interval(1)))
    assert bench.loader.step() == 1
    series = Readings(bench.config).meter_series("m2", MIDNIGHT, MIDNIGHT + 900).to_pylist()
    assert [row["import_wh"] for row in series] == [200, 203]
    last = series[1]
    assert (last["serial"], last["voltage_dv"], last["current_ca"]) == ("s2", 2300, 40)
    assert (last["device"], last["seq"], last["schema_id"]) == ("t01", 1, 1)
    assert last["power_w"] is None
    energies = {(r["meter"], r["step"]): r["import_wh"] for r in bench.rows()}
    assert energies["m2", 0] == 3


def test_what_a_meter_has_not_or_did_not_tell_is_null(bench: Bench) -> None:
    roster = Roster((RosterEntry("m0", "s0", 0b01001), RosterEntry("m1", "s1", 0b11111)))
    rows = [
        (MIDNIGHT, 0, [1, 2, 3, 4, 5, 0]),
        (MIDNIGHT, 1, [1, 2, 3, 4, 5, int(Quality.NO_GAUGES)]),
        (MIDNIGHT + 900, 1, [1, 2, 3, 4, 5, int(Quality.NO_DATA)]),
    ]
    bench.store(bench.device.cut(roster, rows))
    bench.loader.step()
    readings = Readings(bench.config)
    names = ("import_wh", "export_wh", "import_varh", "voltage_dv", "current_ca")
    found = [
        [row[name] for name in names]
        for meter in ("m0", "m1")
        for row in readings.meter_series(meter, MIDNIGHT, MIDNIGHT + 900).to_pylist()
    ]
    assert found == [[1, None, None, 4, None], [1, 2, 3, None, None], [None] * 5]


def test_the_second_schema_fills_its_own_columns(bench: Bench) -> None:
    roster = Roster((RosterEntry("m9", "s9", (1 << 15) - 1),))
    bench.store(
        bench.device.cut(roster, [(MIDNIGHT, 0, [*range(1, 16), 4])], schema=SAMPLED_SCHEMA)
    )
    bench.store(bench.device.cut(ROSTER, interval(0), schema=PROFILE_SCHEMA))
    bench.loader.step()
    (row,) = Readings(bench.config).meter_series("m9", MIDNIGHT, MIDNIGHT).to_pylist()
    assert (row["raw_import_wh"], row["raw_age_ms"], row["power_max_w"], row["samples"]) == (
        6, 9, 14, 15,
    )  # fmt: skip
    assert row["flags"] == 4


def test_a_roster_is_remembered_across_a_restart(bench: Bench) -> None:
    bench.store(bench.device.cut(ROSTER, interval(0)))
    bench.loader.step()
    bench.loader.close()
    bench.store(bench.device.cut(ROSTER, interval(1), with_roster=False))
    assert bench.new_loader().step() == 1
    assert len(bench.rows()) == 6
    assert unopened(bench) == 0


def test_a_batch_that_does_not_open_or_decode_is_kept_and_reported_and_the_next_is_loaded(
    bench: Bench,
) -> None:
    unknown = Roster((RosterEntry("x", "x", 31),))
    sealed = bench.device.cut(ROSTER, interval(0))
    spoilt = bytearray(sealed)
    spoilt[-100] ^= 1
    bench.store(sealed, spoilt=bytes(spoilt))
    bench.store(bench.device.seal_next(b"\x01 is not all of a block"))
    bench.store(bench.device.cut(unknown, interval(0, meters=1), with_roster=False))
    block = encode_block(PROFILE_SCHEMA, ROSTER, interval(0), with_roster=True)
    bench.store(bench.device.seal_next(block, schema_id=2))
    bench.store(bench.device.cut(ROSTER, interval(0, start=MIDNIGHT + 10 * 86_400)))
    bench.store(bench.device.cut(ROSTER, [(MIDNIGHT, 0, [1 << 60, 0, 0, 0, 0, 0])]))
    bench.store(bench.device.cut(ROSTER, [(MIDNIGHT, 0, [1, 0, 0, 0, 0, 1 << 31])]))
    bench.store(bench.device.cut(ROSTER, interval(1)))
    bench.loader.step()
    assert unopened(bench) == 7
    assert len(bench.rows()) == 3
    told = LoaderProgress(bench.config.loader_file).unopened_after(0)
    assert [(u.seq, u.reason) for u in told] == [(seq, "unreadable") for seq in range(1, 8)]
    assert LoaderProgress(bench.config.loader_file).loaded_upto() == 8


def test_a_batch_of_a_destroyed_epoch_is_said_to_be_gone(bench: Bench) -> None:
    bench.store(bench.device.cut(ROSTER, interval(0)))
    place = KeyPlace(bench.keys)
    destroy(place, EPOCH, read_records(place, EPOCH), NOW)
    bench.loader.close()
    bench.loader = bench.new_loader()
    bench.loader.step()
    assert unopened(bench, "epoch_gone") == 1


def test_a_new_epoch_is_taken_up_without_a_restart(bench: Bench) -> None:
    bench.store(bench.device.cut(ROSTER, interval(0)))
    bench.loader.step()
    rotate_epoch(bench.keys, now_utc_s=NOW)
    bench.device.keyset = read_keyset(KeyPlace(bench.keys))
    bench.store(bench.device.cut(ROSTER, interval(1)))
    bench.loader.step()
    assert len(bench.rows()) == 6


def test_status_tells_how_far_the_chain_is(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.store(bench.device.cut(ROSTER, interval(0)))
    bench.loader.step()
    assert main(["status", "--config", str(bench.config.source), "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert (state["rows"], state["loaded_upto"], state["unopened"]) == (3, 1, 0)
    assert state["last_end_utc_s"] == MIDNIGHT


def test_plain_rows_are_taken_like_a_block(bench: Bench) -> None:
    bench.store(bench.device.cut(ROSTER, interval(0)))
    later = encode_rows(PROFILE_SCHEMA, ROSTER, interval(1, meters=2))
    bench.store(bench.device.seal_next(later, content=CBOR_ROWS))
    bench.loader.step()
    series = Readings(bench.config).meter_series("m1", MIDNIGHT, MIDNIGHT + 900).to_pylist()
    assert [row["import_wh"] for row in series] == [100, 102]
    assert (series[1]["serial"], series[1]["voltage_dv"], series[1]["seq"]) == ("s1", 2300, 2)
    assert len(bench.rows()) == 5


def test_plain_rows_that_are_damaged_are_kept_sealed_and_reported(bench: Bench) -> None:
    bench.store(bench.device.seal_next(b"rows", content=CBOR_ROWS))
    bench.loader.step()
    assert unopened(bench) == 1


def test_batches_of_both_suites_in_one_stream_are_loaded(bench: Bench) -> None:
    keys = read_keyset(KeyPlace(bench.keys)).epoch_keys
    bench.store(bench.device.cut(ROSTER, interval(0)))
    add_key(KeyPlace(bench.keys), EPOCH, NOW, suite=MLKEM768_X25519, at_once=True)
    settle(KeyPlace(bench.keys))
    bench.device.keyset = read_keyset(KeyPlace(bench.keys))
    bench.store(bench.device.cut(ROSTER, interval(1)))
    bench.device.keyset = replace(bench.device.keyset, epoch_keys=keys)
    bench.store(bench.device.cut(ROSTER, interval(2)))
    bench.loader.step()
    suites = [read_header(bench.device.outbox[seq]).suite for seq in (1, 2, 3)]
    assert (suites, len(bench.rows())) == ([1, 2, 1], 9)


def some_events(first: int, count: int) -> list[Event]:
    return [
        Event("m1", "s1", "fraud", MIDNIGHT + k, 40, "x" * (k % 7), k % 2)
        for k in range(first, first + count)
    ]


def test_events_come_once_however_often_they_are_sent_and_are_no_readings(bench: Bench) -> None:
    events = some_events(0, 5)
    bench.store(bench.device.seal_next(encode_events(events), content=EVENTS, schema_id=0))
    bench.loader.step()
    again = encode_events([*events[2:], *some_events(5, 1)])
    bench.store(bench.device.seal_next(again, content=EVENTS, schema_id=0))
    bench.loader.step()
    assert unopened(bench) == 0
    assert bench.metrics.value("loadscape_loader_events_total") == 6
    assert DeltaLake(bench.config.lake_dir).watermark(LOADER) == 2
    assert bench.rows() == []
    found = read_events(bench.config.events_file, "m1")
    assert [event.at_utc_s for event in found] == [MIDNIGHT + k for k in reversed(range(6))]
    assert found[0].device == "t01"
    assert read_events(bench.config.events_file, "m1", log="standard") == []
    assert read_events(bench.config.events_file, "m2") == []


def test_events_that_do_not_decode_are_kept_sealed_and_reported(bench: Bench) -> None:
    bench.store(bench.device.seal_next(b"events", content=EVENTS))
    bench.loader.step()
    assert unopened(bench) == 1
    assert read_events(bench.config.events_file, "m1") == []


def test_days_wait_for_the_map_across_a_restart(bench: Bench) -> None:
    bench.map_takes = False
    bench.store(bench.device.cut(ROSTER, interval(0) + interval(1)))
    bench.loader.step()
    bench.loader.refresh_map(at_once=True)
    bench.loader.close()
    again = bench.new_loader()
    bench.map_takes = True
    again.refresh_map(at_once=True)
    again.refresh_map(at_once=True)
    assert len(bench.refreshed) == 2
    assert bench.refreshed[0] == bench.refreshed[1]
    assert len(bench.refreshed[1]) == 2


def test_a_day_in_many_pieces_becomes_one_file_with_the_same_rows(bench: Bench) -> None:
    for number in range(1, FILES_PER_DAY + 2):
        bench.store(bench.device.cut(ROSTER, interval(number)))
        bench.loader.step()
    assert bench.metrics.value("loadscape_loader_day_rewrites_total") == 1
    assert len(DeltaLake(bench.config.lake_dir).files()) == 1
    assert len(bench.rows()) == 3 * (FILES_PER_DAY + 1)


def test_a_loader_killed_at_any_moment_loads_everything_once(bench: Bench) -> None:
    """Twelve kills at growing delays."""
    count = 400
    for number in range(count):
        rows = interval(number, start=MIDNIGHT - 5 * 86_400)
        bench.store(bench.device.cut(ROSTER, rows, with_roster=number == 0))
        if number % 8 == 0:
            told = encode_events(some_events(number, 9))
            bench.store(bench.device.seal_next(told, content=EVENTS, schema_id=0))
    bench.loader.close()
    code = (
        "import threading, pathlib; from central.config import load_config; "
        "from central.metrics import MetricSet; from central.readings import loader; "
        "loader.STEP_BYTES = 4000; loader.COMMIT_EVERY_S = 0; "
        # No rewriting, which would hide a double row.
        "loader.FILES_PER_DAY = 10_000; "
        f"config = load_config(pathlib.Path({str(bench.config.source)!r})); "
        "made = loader.Loader(config, MetricSet(), lambda days: True); print('up', flush=True); "
        "made.run(threading.Event())"
    )
    root = Path(__file__).parents[3]
    for kill in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(root)},
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.01 + 0.017 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    last = bench.new_loader()
    while last.step():
        pass
    lake = DeltaLake(bench.config.lake_dir)
    assert lake.watermark(LOADER) == count + count // 8
    told_once = [event.at_utc_s for event in read_events(bench.config.events_file, "m1")]
    assert told_once == [MIDNIGHT + k for k in reversed(range(count + 1))]
    assert sum(file.rows for file in lake.files()) == 3 * count
    assert len(bench.rows()) >= 3 * (count - 1)
