"""The map computed from the real lake: registers in, power out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from central.config import load_config
from central.grid.load import load_folder
from central.grid.model import load_grid
from central.map.aggregate import refresh
from central.map.aggregates import Aggregates, AggregatesReader
from central.map.cells import lay_out
from central.readings.lake import SCHEMA, DeltaLake
from central.readings.query import Readings
from wire.quality import Quality

WriteTown = Callable[..., Path]
DAY = date(2024, 1, 15)
DAY_UTC_S = 1705276800


def lake_rows(registers_wh: dict[str, dict[int, int | None]]) -> pa.Table:
    """Rows of cumulative import registers: meter -> step end (0 = midnight) -> Wh or missing."""
    rows = []
    for meter, by_end in registers_wh.items():
        for end, wh in by_end.items():
            end_utc_s = DAY_UTC_S + 900 * end
            row = dict.fromkeys(SCHEMA.names, None)
            row |= {
                "tenant": "demo",
                "meter": meter,
                "serial": f"S{meter}",
                "day": date.fromordinal(719163 + (end_utc_s - 900) // 86400),
                "end_utc_s": end_utc_s,
                "schema_id": 1,
                "import_wh": wh,
                "export_wh": None if wh is None else 0,
                "import_varh": None if wh is None else 0,
                "flags": int(Quality.NO_DATA if wh is None else Quality.PROFILE),
                "ver": 0,
                "device": "t01",
                "stream": "s",
                "seq": 1,
                "lsn": 1,
            }
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def test_registers_in_the_lake_become_power_on_the_map(
    tmp_path: Path, town_files: WriteTown
) -> None:
    (tmp_path / "central.toml").write_text(
        'tenant = "demo"\ndata_dir = "data"\n[broker]\nhost = "h"\nca_file = "a"\n'
        'cert_file = "b"\nkey_file = "c"\n[keys]\ndir = "k"\n'
    )
    config = load_config(tmp_path / "central.toml")
    load_folder(config.registry_file, town_files(transformers=1, households=2))
    grid = load_grid(config.registry_file)
    check, first, second = grid.meters[0].id, grid.meters[1].id, grid.meters[2].id
    # 250 Wh a quarter is 1 kW; the register at the day's first edge lies in the day before.
    lake = DeltaLake(config.lake_dir, writer=True)
    lake.commit(
        lake_rows(
            {
                check: {end: 5000 + 10_000 * end for end in range(4)},
                first: {end: 100 + 250 * end for end in range(4)},
                second: {0: 7, 1: None, 2: 507, 3: 757},
            }
        ),
        "loader",
        1,
    )
    aggregates = Aggregates(config.aggregates_file)

    assert DAY in refresh({DAY}, Readings(config), grid, aggregates)

    aggregates.close()
    reader = AggregatesReader(config.aggregates_file)
    layout = lay_out(grid)
    cells = reader.cell_day(DAY, len(layout.cells))
    ((_, units),) = reader.transformer_days(DAY, DAY, 1)
    assert cells is not None
    assert cells.import_wh.sum(axis=1)[:4].tolist() == [250, 250, 500, 0]
    assert cells.reporting.sum(axis=1)[:4].tolist() == [1, 1, 2, 0]
    assert units.apparent_va[:3, 0].tolist() == [40_000.0] * 3
    assert np.isnan(units.apparent_va[3:]).all()
    state = reader.state()
    assert [(day.day, day.steps) for day in state.days] == [(DAY, 3)]
    assert state.last_end_utc_s == DAY_UTC_S + 3 * 900
    assert state.days[0].coverage == pytest.approx(7 / (3 * len(grid.meters)))
