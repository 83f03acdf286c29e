"""Write the bench's shipped readings: 200 customers of the demo town, 21 days, schema 1.

    python -m hil.extract.customers

Runs with numpy alone. The file is made anew only when the town changes, because
figures measured on it are compared over time.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil.ledger import INTERVAL_S, Ledger
from hil.town import load_town, midnight_utc_s

CUSTOMERS = 200
DAYS = 21
FIRST_UTC_S = midnight_utc_s(2026, 11, 2)
TRANSFORMER = "t10"
FILE = Path(__file__).parent.parent / "bench" / "data" / "customers_200x21d.npz"
_PROFILE_FLAG = 0
"""A live reading of a meter that is well has no flag set."""
CHANNELS = ("import_wh", "export_wh", "import_varh", "voltage_dv", "current_ca")


def main() -> int:
    """Write the file and print its size."""
    town = load_town("schutterwald", origin_utc_s=FIRST_UTC_S)
    ledger = Ledger(town)
    meters = [m for m in town.meters_of(TRANSFORMER) if m.kind != "check"][:CUSTOMERS]
    last = FIRST_UTC_S + DAYS * 86_400
    columns: dict[str, list[list[int]]] = {channel: [] for channel in CHANNELS}
    for meter in meters:
        rows = ledger.rows(meter.id, FIRST_UTC_S + INTERVAL_S, last)
        for channel in CHANNELS:
            columns[channel].append([getattr(row, channel) for row in rows])
    arrays = {channel: np.array(values, dtype=np.int64) for channel, values in columns.items()}
    arrays["flags"] = np.full_like(arrays["import_wh"], _PROFILE_FLAG)
    arrays["end_utc_s"] = np.arange(FIRST_UTC_S, last, INTERVAL_S, dtype=np.int64) + INTERVAL_S
    FILE.parent.mkdir(parents=True, exist_ok=True)
    _write(FILE, arrays, np.array([meter.id for meter in meters]))
    print(f"{FILE.name}: {arrays['import_wh'].shape}, {FILE.stat().st_size / 1e6:.2f} MB")
    return 0


def _write(path: Path, arrays: dict[str, NDArray[np.int64]], meters: NDArray[np.str_]) -> None:
    """An .npz with LZMA members; `numpy.load` reads it like any other."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in {**arrays, "meters": meters}.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", (2026, 1, 1, 0, 0, 0))
            archive.writestr(member, buffer.getvalue(), zipfile.ZIP_LZMA)


if __name__ == "__main__":
    sys.exit(main())
