"""GET /api/v1/devices: what the centre knows of its concentrators."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient

from central.api.app import create_app
from central.collect.fleet import Alarm, Fleet
from central.config import load_config
from central.readings.ledger import LoaderLedger, Unopened, UnopenedBatch


def test_devices_show_what_points_to_a_clone_and_how_much_of_theirs_waits_sealed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "central.toml"
    path.write_text(
        'tenant = "demo"\ndata_dir = "data"\n[keys]\ndir = "keys"\n[broker]\nhost = "localhost"\n'
        'ca_file = "a"\ncert_file = "b"\nkey_file = "c"\n[api]\nopen = true\n'
    )
    config = load_config(path)
    fleet = Fleet(config.journal_dir)
    fleet.get("t01", "demo-t01", 1_705_276_800).alarm = Alarm(1_705_276_800, "two batches 4")
    fleet.get("t02", "demo-t02", 1_705_276_800)
    fleet.close()
    ledger = LoaderLedger(config.loader_file)
    what = Unopened(7, "t02", b"stream", 3, "unreadable", "for the test")
    ledger.before_commit({}, (), [UnopenedBatch(what, b"sealed")])
    ledger.close()
    devices = TestClient(create_app(config)).get("/api/v1/devices").json()["devices"]
    shown = [(one["device"], one["alarm"], one["unopened"]) for one in devices]
    assert shown == [("t01", "two batches 4", 0), ("t02", None, 1)]
