"""What is taken out of the installed simbench and emobpy: shapes of 2016 and temperatures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hil.town.shapes import AXIS_STEPS
from hil.town.tables import ClimateMonth

HOMES = ("H0-A", "H0-B", "H0-C", "H0-G", "H0-L")
TRADES = ("G0-A", "G1-A", "G1-B", "G1-C", "G2-A", "G3-A", "G4-A", "G4-B", "G5-A", "G6-A")
FARMS = ("L1-A", "L2-A")
HEAT_PUMPS = (
    "Air_Alternative_1",
    "Air_Parallel_1",
    "Air_Semi-Parallel_1",
    "Soil_Alternative_1",
    "Air_Alternative_2",
    "Air_Parallel_2",
    "Air_Semi-Parallel_2",
    "Soil_Alternative_2",
)
CHARGERS = (
    "HLS_A_3.7", "HLS_B_3.7", "HLS_C_3.7", "HLS_A_11.0", "HLS_B_11.0", "HLS_A_22.0",
    "APLS_A_3.7", "APLS_B_3.7", "APLS_A_11.0", "APLS_B_11.0", "APLS_A_22.0", "APLS_A_50.0",
)  # fmt: skip
PLANTS = ("PV1", "PV2", "PV3", "PV4", "PV5", "PV6", "PV7", "PV8")
WEEK_STEPS = 7 * 96
_KEPT_FOR_VERIFICATION = ("2016-01-18", "2016-05-23")


def shapes() -> tuple[list[str], NDArray[np.int16]]:
    """Names and values (parts of 10,000) of all shapes on the UTC axis."""
    folder = _simbench_data()
    loads = pd.read_csv(folder / "LoadProfile.csv", sep=";")
    sun = pd.read_csv(folder / "RESProfile.csv", sep=";", usecols=["time", *PLANTS])
    columns: dict[str, NDArray[Any]] = {}
    for profile in (*HOMES, *TRADES, *FARMS):
        columns[f"{profile}_p"] = loads[f"{profile}_pload"].to_numpy()
        columns[f"{profile}_q"] = loads[f"{profile}_qload"].to_numpy()
    for profile in (*HEAT_PUMPS, *CHARGERS):
        columns[f"{profile}_p"] = loads[f"{profile}_pload"].to_numpy()
    for profile in PLANTS:
        columns[profile] = sun[profile].to_numpy()
    table = np.rint(np.stack(list(columns.values())) * 10_000).astype(np.int16)
    if table.shape[1] != AXIS_STEPS:
        raise ValueError(f"expected {AXIS_STEPS} quarter hours of 2016, came {table.shape[1]}")
    _fill_verification_weeks(table)
    return list(columns), table


def yearly_hours(names: Sequence[str], table: NDArray[np.int16]) -> dict[str, float]:
    """Full-load hours of each shape: multiplied with the nominal power gives the year's energy."""
    return {name: float(table[row].sum()) / 40_000 for row, name in enumerate(names)}


def monthly_temperatures() -> tuple[ClimateMonth, ...]:
    """Monthly means of 2016 over Germany, degrees Celsius (ERA5, as shipped by emobpy)."""
    import importlib.util

    spec = importlib.util.find_spec("emobpy")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("emobpy is not installed: pip install emobpy==0.6.2")
    path = Path(spec.origin).parent / "data" / "ERA5-hourly-t2m.csv"
    frame = pd.read_csv(path)
    months = pd.to_datetime(frame["date"].str.replace(" GMT", ""), utc=True)
    of_2016 = months.dt.year == 2016
    celsius = (frame["DE"] - 273.15)[of_2016].groupby(months[of_2016].dt.month).mean()
    return tuple(ClimateMonth(int(m), round(float(c), 1)) for m, c in celsius.items())


def _simbench_data() -> Path:
    import simbench

    return Path(simbench.__file__).parent / "networks" / "1-complete_data-mixed-all-2-sw"


def _fill_verification_weeks(table: NDArray[np.int16]) -> None:
    """Put the week before in place of the weeks that are kept for verification."""
    axis = pd.date_range("2015-12-31 23:00", periods=AXIS_STEPS, freq="15min", tz="UTC")
    for monday in _KEPT_FOR_VERIFICATION:
        first = int(axis.get_loc(pd.Timestamp(monday, tz="Europe/Berlin").tz_convert("UTC")))
        table[:, first : first + WEEK_STEPS] = table[:, first - WEEK_STEPS : first]
