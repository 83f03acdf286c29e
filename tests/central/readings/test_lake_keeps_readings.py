"""The lake commits rows and watermark together; the newest true value counts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from central.config import Config, load_config
from central.readings.engine import DuckDbEngine
from central.readings.lake import SCHEMA, VALUE_COLUMNS, DeltaLake
from central.readings.query import Readings, day_start_utc_s
from wire.quality import Quality

DAY = date(2026, 3, 2)
START = day_start_utc_s(DAY)


def row(end_utc_s: int, import_wh: int | None, /, **other: object) -> dict[str, object]:
    values: dict[str, object] = dict.fromkeys(VALUE_COLUMNS)
    begins = datetime.fromtimestamp(end_utc_s - 900, UTC).date()
    values |= {
        "tenant": "demo", "meter": "m1", "serial": "s1", "day": begins, "end_utc_s": end_utc_s,
        "schema_id": 1, "import_wh": import_wh, "export_wh": 0, "import_varh": 0, "flags": 0,
        "ver": 0, "device": "t01", "stream": "00", "seq": 1, "lsn": 1,
    }  # fmt: skip
    return values | other


def table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def config_in(folder: Path) -> Config:
    path = folder / "central.toml"
    path.write_text(
        'tenant = "demo"\ndata_dir = "data"\n[keys]\ndir = "keys"\n[broker]\nhost = "localhost"\n'
        'ca_file = "a"\ncert_file = "b"\nkey_file = "c"\n'
    )
    return load_config(path)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_in(tmp_path)


@pytest.fixture
def lake(config: Config) -> DeltaLake:
    return DeltaLake(config.lake_dir, writer=True)


def energies(config: Config, day: date = DAY) -> dict[int, int | None]:
    found = Readings(config).day_energy(day).to_pylist()
    assert len(found) == len({(r["meter"], r["step"]) for r in found})
    return {r["step"]: r["import_wh"] for r in found}


def test_nothing_is_there_before_the_first_commit(config: Config) -> None:
    readings = Readings(config)
    assert readings.days() == []
    assert readings.last_end_utc_s() is None
    assert readings.day_energy(DAY).num_rows == 0
    assert readings.meter_series("m1", START, START + 900).num_rows == 0


def test_rows_and_watermark_come_together(lake: DeltaLake, config: Config) -> None:
    assert lake.watermark("l") == 0
    days = lake.commit(table(row(START, 5), row(START + 900, 7)), "l", 41)
    assert days == {DAY - timedelta(days=1), DAY}
    assert DeltaLake(config.lake_dir).watermark("l") == 41


def test_the_edge_on_midnight_belongs_to_the_day_before_and_still_gives_the_first_energy(
    lake: DeltaLake, config: Config
) -> None:
    lake.commit(table(row(START, 5), row(START + 900, 7), row(START + 1800, 10)), "l", 1)
    assert energies(config) == {0: 2, 1: 3}
    assert Readings(config).days() == [DAY - timedelta(days=1), DAY]


def test_an_unknown_edge_gives_no_energy_on_either_side(lake: DeltaLake, config: Config) -> None:
    missing = row(START + 900, None, flags=int(Quality.NO_DATA))
    lake.commit(table(row(START, 5), missing, row(START + 1800, 9), row(START + 2700, 9)), "l", 1)
    assert energies(config) == {0: None, 1: None, 2: 0}


@pytest.mark.parametrize(
    "other",
    [
        {"flags": int(Quality.COUNTER_RESET)},
        {"flags": int(Quality.METER_EXCHANGED)},
        {"serial": "s2"},
        {"import_wh": 4},
    ],
)
def test_no_energy_is_taken_across_a_reset_or_another_meter(
    lake: DeltaLake, config: Config, other: dict[str, object]
) -> None:
    lake.commit(table(row(START, 5), row(START + 900, 7, **other)), "l", 1)
    assert energies(config) == {0: None}


def test_a_true_value_wins_over_no_data_whichever_came_first(
    lake: DeltaLake, config: Config
) -> None:
    missing = row(START + 900, None, flags=int(Quality.NO_DATA), lsn=1)
    lake.commit(table(row(START, 5), missing), "l", 1)
    lake.commit(table(row(START + 900, 7, lsn=2)), "l", 2)
    lake.commit(table(row(START + 900, None, flags=int(Quality.NO_DATA), lsn=3)), "l", 3)
    assert energies(config) == {0: 2}


def test_the_first_true_value_wins_until_a_revision(lake: DeltaLake, config: Config) -> None:
    lake.commit(table(row(START, 5), row(START + 900, 7, lsn=1)), "l", 1)
    lake.commit(table(row(START + 900, 8, lsn=2)), "l", 2)
    assert energies(config) == {0: 2}
    lake.commit(table(row(START + 900, 9, lsn=3, ver=1)), "l", 3)
    assert energies(config) == {0: 4}


def test_rewriting_a_day_changes_no_answer_and_leaves_one_file(
    lake: DeltaLake, config: Config
) -> None:
    for step in range(6):
        rows = (row(START + 900 * (step + k), 10 * (step + k), lsn=step) for k in range(2))
        lake.commit(table(*rows), "l", step)
    before = energies(config)
    series = Readings(config).meter_series("m1", START, START + 5400)
    kept = DuckDbEngine().query("kept_rows", [file.path for file in lake.files(DAY, DAY)])
    lake.replace_day(DAY, kept)
    assert len(lake.files(DAY, DAY)) == 1
    assert energies(config) == before == dict.fromkeys(range(6), 10)
    assert Readings(config).meter_series("m1", START, START + 5400).equals(series)
    assert lake.watermark("l") == 5
    assert len(list((config.lake_dir / f"day={DAY}").iterdir())) > 1, "superseded files lie about"
    assert lake.vacuum(older_than_h=0) > 0
    assert energies(config) == before


def test_what_gave_way_is_kept_as_a_revision_through_a_rewrite_and_sums_stay(
    lake: DeltaLake, config: Config
) -> None:
    missing = {"flags": int(Quality.NO_DATA)}
    estimated = {"flags": int(Quality.ESTIMATED)}
    lake.commit(
        table(
            row(START, 5, lsn=1),
            row(START + 900, None, lsn=1, **missing),
            row(START + 1800, None, lsn=1, **missing),
            row(START + 2700, 30, lsn=1),
        ),
        "l",
        1,
    )
    lake.commit(
        table(row(START + 900, 8, lsn=2, **estimated), row(START + 2700, 30, lsn=2)), "l", 2
    )
    lake.commit(table(row(START + 900, 7, lsn=3), row(START + 1800, 9, lsn=3)), "l", 3)
    lake.commit(table(row(START + 900, 6, lsn=4), row(START + 1800, 12, lsn=4, ver=1)), "l", 4)

    def asked() -> tuple[object, ...]:
        readings = Readings(config)
        return (
            energies(config),
            readings.meter_series("m1", START, START + 2700).to_pylist(),
            readings.revisions("m1", START, START + 2700),
        )

    before = asked()
    assert before[0] == {0: 2, 1: 5, 2: 18}
    revisions = Readings(config).revisions("m1", START, START + 2700)
    shown = [(r.end_utc_s - START, r.import_wh, r.counts, r.reason) for r in revisions]
    assert shown == [
        (900, 7, True, "counts: a true value, and the best that is known"),
        (900, 6, False, "a true value: came after another, which counts"),
        (900, 8, False, "an estimate: gave way to a true value"),
        (900, None, False, "no data: gave way to a true value"),
        (1800, 12, True, "counts: a true value, and the best that is known"),
        (1800, 9, False, "replaced by revision 1"),
        (1800, None, False, "replaced by revision 1"),
    ]
    kept = DuckDbEngine().query("kept_rows", [file.path for file in lake.files(DAY, DAY)])
    lake.replace_day(DAY, kept)
    assert asked() == before
    assert kept.num_rows == 8, "a row that repeats another is not kept"
    assert Readings(config).revisions("m2", START, START + 2700) == []


SAID: list[tuple[int, int | None, Quality]] = [
    (0, 5, Quality.PROFILE),
    (900, None, Quality.NO_DATA),
    (900, 8, Quality.ESTIMATED),
    (900, 7, Quality.PROFILE),
    (900, 7, Quality.PROFILE),
    (1800, None, Quality.NO_DATA),
    (1800, 9, Quality.PROFILE),
]
"""Live, recovered, estimated, missing, and one thing twice: (s after START, Wh, flags)."""


@settings(max_examples=12, deadline=None)
@given(order=st.permutations(SAID), commits=st.integers(1, 7), rewrite_after=st.integers(0, 7))
def test_the_order_of_arrival_changes_neither_what_counts_nor_what_is_kept(
    tmp_path_factory: pytest.TempPathFactory,
    order: list[tuple[int, int | None, Quality]],
    commits: int,
    rewrite_after: int,
) -> None:
    config = config_in(tmp_path_factory.mktemp("centre"))
    lake = DeltaLake(config.lake_dir, writer=True)
    rows = [
        row(START + after_s, wh, flags=int(flags), lsn=1 + place * commits // len(order))
        for place, (after_s, wh, flags) in enumerate(order)
    ]
    for lsn in range(1, commits + 1):
        lake.commit(table(*(one for one in rows if one["lsn"] == lsn)), "l", lsn)
        if lsn == rewrite_after:
            files = [file.path for file in lake.files(DAY, DAY)]
            lake.replace_day(DAY, DuckDbEngine().query("kept_rows", files))
    readings = Readings(config)
    assert energies(config) == {0: 2, 1: 2}
    series = readings.meter_series("m1", START, START + 1800).to_pylist()
    assert [(one["import_wh"], one["flags"]) for one in series] == [(wh, 2) for wh in (5, 7, 9)]
    told = readings.revisions("m1", START, START + 1800)
    shown = [(one.end_utc_s - START, one.import_wh, one.counts) for one in told]
    assert shown == [
        (900, 7, True),
        (900, 8, False),
        (900, None, False),
        (1800, 9, True),
        (1800, None, False),
    ]


def test_another_tenants_rows_are_not_seen(lake: DeltaLake, config: Config) -> None:
    lake.commit(table(row(START, 5), row(START + 900, 7, tenant="other")), "l", 1)
    assert energies(config) == {}


def test_a_meters_series_is_in_order_and_bounded(lake: DeltaLake, config: Config) -> None:
    lake.commit(table(*(row(START + 900 * k, k, lsn=k) for k in (3, 1, 2, 0))), "l", 1)
    series = Readings(config).meter_series("m1", START, START + 1800)
    assert series["import_wh"].to_pylist() == [0, 1, 2]


def test_a_reader_that_was_there_first_sees_later_commits(lake: DeltaLake, config: Config) -> None:
    readings = Readings(config)
    lake.commit(table(row(START, 5)), "l", 1)
    assert readings.last_end_utc_s() == START
    lake.commit(table(row(START + 900, 7)), "l", 2)
    assert readings.last_end_utc_s() == START + 900


def test_a_long_log_is_checkpointed_and_loses_nothing(lake: DeltaLake, config: Config) -> None:
    for step in range(55):
        lake.commit(table(row(START + 900 * step, step)), "l", step)
    assert list((config.lake_dir / "_delta_log").glob("*.checkpoint.parquet"))
    assert sum(file.rows for file in DeltaLake(config.lake_dir).files()) == 55
    assert DeltaLake(config.lake_dir).watermark("l") == 54


def test_readers_in_many_threads_see_whole_commits_while_days_are_rewritten(
    lake: DeltaLake, config: Config
) -> None:
    readings = Readings(config)
    stop = threading.Event()
    counts: list[int] = []

    def read() -> None:
        while not stop.is_set():
            counts.append(len(energies_of(readings)))

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(read) for _ in range(3)]
        for step in range(1, 25):
            rows = (row(START + 900 * (2 * step + k), step, lsn=step) for k in range(2))
            lake.commit(table(*rows), "l", step)
            if step % 6 == 0:
                files = [file.path for file in lake.files(DAY, DAY)]
                lake.replace_day(DAY, DuckDbEngine().query("kept_rows", files))
        stop.set()
        for future in futures:
            future.result()
    assert all(count % 2 == 0 for count in counts), "a commit is seen whole or not at all"
    assert len(energies_of(readings)) == 48


def energies_of(readings: Readings) -> list[int]:
    return [r["step"] for r in readings.day_energy(DAY).to_pylist()]
