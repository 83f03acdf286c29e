"""One day of a small town over real lines, a real broker and real sealing: central holds it all."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from agent.chores import AGENT_LOG
from central.config import load_config
from central.readings.device_log import find_flaws, read_log
from central.readings.engine import DuckDbEngine
from central.readings.events import read_events
from central.readings.lake import DeltaLake
from central.readings.query import Readings
from hil.meters.dlms.incidents import write_incidents
from hil.meters.dlms.meter import DlmsMeter
from hil.proof import Proof, prove
from hil.site.installation import Installation
from hil.site.passing import pass_until, recovered, settle, wait_for

SPEED = 450.0
QUARTER_S = 900
DAY_S = 86_400


@pytest.fixture(scope="module")
def day(make_site) -> tuple[Installation, int, int]:
    """The installation after its day, and the first and last end that central must hold."""
    site: Installation = make_site()
    start_utc_s = site.settings.start_utc_s
    site.start_broker()
    site.start_meters()
    site.start_central()
    site.start_agents()
    wait_for(site, lambda: recovered(site), 90.0, "the recovery of two days")
    site.set_speed(SPEED)
    last_end_utc_s = (start_utc_s + DAY_S) // QUARTER_S * QUARTER_S
    pass_until(site, last_end_utc_s + 60)
    settle(site, last_end_utc_s)
    first_end_utc_s = -(-(start_utc_s - site.settings.recover_days * DAY_S) // QUARTER_S)
    return site, (first_end_utc_s + 1) * QUARTER_S, last_end_utc_s


@pytest.fixture(scope="module")
def proof(day: tuple[Installation, int, int]) -> Proof:
    site, first_end_utc_s, last_end_utc_s = day
    return prove(site, first_end_utc_s, last_end_utc_s, SPEED)


def test_centrals_ledger_equals_the_meters_own(proof: Proof) -> None:
    assert proof.wrong == []


def test_both_kinds_of_meters_were_compared(
    day: tuple[Installation, int, int], proof: Proof
) -> None:
    site, first_end_utc_s, last_end_utc_s = day
    protocols = [meter.protocol for meter in site.town.meters]
    assert len(site.devices) == 2
    assert len(protocols) >= 30
    ends = (last_end_utc_s - first_end_utc_s) // QUARTER_S + 1
    assert proof.intervals == ends * protocols.count("dlms")
    # Without a fault on the line, every interval of the day closes but the first, which began
    # before the agent did.
    assert proof.interpolated >= (DAY_S // QUARTER_S - 2) * protocols.count("modbus")


def test_energies_of_intervals_sum_to_the_register_difference_to_the_wh(
    day: tuple[Installation, int, int],
) -> None:
    site, first_end_utc_s, last_end_utc_s = day
    readings = Readings(load_config(site.layout.central_config))
    energies: dict[str, int] = {}
    present = datetime.fromtimestamp(first_end_utc_s, UTC).date()
    while present <= datetime.fromtimestamp(last_end_utc_s, UTC).date():
        for row in readings.day_energy(present).to_pylist():
            if first_end_utc_s < row["end_utc_s"] <= last_end_utc_s and row["import_wh"]:
                energies[row["meter"]] = energies.get(row["meter"], 0) + row["import_wh"]
        present += timedelta(days=1)
    for meter in site.town.meters:
        series = readings.meter_series(meter.id, first_end_utc_s, last_end_utc_s).to_pylist()
        registers = [row["import_wh"] for row in series if row["import_wh"] is not None]
        assert energies.get(meter.id, 0) == registers[-1] - registers[0], meter.id


def test_each_event_of_the_meters_own_logs_is_at_the_centre_once(
    day: tuple[Installation, int, int],
) -> None:
    site, *_ = day
    start_utc_s = site.settings.start_utc_s
    since_utc_s = start_utc_s - site.settings.recover_days * DAY_S + DAY_S // 2
    events_file = load_config(site.layout.central_config).events_file
    written, told = set(), []
    for transformer in {meter.transformer for meter in site.town.meters}:
        shown = site.town.shown(transformer)
        for meter in site.town.meters_of(transformer):
            if meter.protocol != "dlms":
                continue
            own = DlmsMeter(shown[meter.id], meter.model)
            write_incidents(own, start_utc_s)
            written |= {
                (meter.id, log, at_utc_s, code)
                for log, entries in own.logs.items()
                for at_utc_s, code in entries.entries
                if at_utc_s > since_utc_s
            }
            told += [
                (event.meter, event.log, event.at_utc_s, event.code)
                for event in read_events(events_file, meter.id)
                if event.log != AGENT_LOG
            ]
    assert len(written) >= 4
    assert written <= set(told)
    assert len(told) == len(set(told))


def test_only_grid_and_asset_master_data_is_there_before_a_meter_is_read(
    day: tuple[Installation, int, int],
) -> None:
    site, *_ = day
    assert sorted(path.name for path in site.layout.grid.iterdir()) == [
        "assets.csv",
        "chargers.csv",
        "climate.csv",
        "lines.geojson",
        "meters.csv",
        "plants.csv",
        "service_points.csv",
        "town.json",
        "transformers.csv",
    ]


def test_the_proof_notices_a_single_wrong_wh_and_a_single_missing_interval(
    day: tuple[Installation, int, int], tmp_path: Path
) -> None:
    site, first_end_utc_s, last_end_utc_s = day
    copy = _copy_of(site, tmp_path)
    config = load_config(copy.layout.central_config)
    lake = DeltaLake(config.lake_dir, writer=True)
    last_day = datetime.fromtimestamp(last_end_utc_s - QUARTER_S, UTC).date()
    files = [file.path for file in lake.files(last_day, last_day)]
    kept = DuckDbEngine(1).query("kept_rows", files)
    rows = kept.to_pylist()
    profile = next(meter.id for meter in site.town.meters if meter.protocol == "dlms")
    own = [row for row in rows if row["meter"] == profile]
    own[0]["import_wh"] += 1
    rows.remove(own[1])
    lake.replace_day(last_day, pa.Table.from_pylist(rows, schema=kept.schema))
    wrong = prove(copy, first_end_utc_s, last_end_utc_s, SPEED).wrong
    assert len(wrong) == 2
    assert all(fault.startswith(f"{profile}:") for fault in wrong)
    assert str(own[0]["end_utc_s"]) in wrong[0]
    assert "is not there" in wrong[1]


def test_the_agents_own_logs_are_at_central_and_whole(day: tuple[Installation, int, int]) -> None:
    site, _, _ = day
    path = load_config(site.layout.central_config).device_log_file
    for device in site.devices:
        (start,) = (entry for entry in read_log(path, device) if entry.code == "start")
        assert "version=" in start.detail
    assert find_flaws(path) == []


def _copy_of(site: Installation, root: Path) -> Installation:
    """The installation's data at another place, for harm."""
    shutil.copytree(site.layout.central, root / "central")
    shutil.copytree(site.layout.reads, root / "reads")
    toml = site.layout.central_config.read_text().replace(str(site.root), str(root))
    (root / "central.toml").write_text(toml)
    shutil.copytree(site.layout.keys, root / "keys")
    return Installation(site.choice, root, site.settings)
