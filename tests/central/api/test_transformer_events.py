"""Event log entries of all meters of one transformer, as the page's panel asks for them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from central.api.app import create_app
from central.config import Config
from central.grid.load import load_folder
from central.grid.model import load_grid
from central.readings.events import EventLedger
from tests.central.api.test_api import write_config
from wire.events import Event

AT = 1_705_276_800


@pytest.fixture
def config(tmp_path: Path, town_files: Callable[..., Path]) -> Config:
    config = write_config(tmp_path)
    load_folder(config.registry_file, town_files(transformers=2, households=3))
    return config


@pytest.fixture
def client(config: Config) -> TestClient:
    return TestClient(create_app(config))


def test_a_transformers_events_are_those_of_all_its_meters_and_of_no_other(
    client: TestClient, config: Config
) -> None:
    meters = load_grid(config.registry_file).meters
    ledger = EventLedger(config.events_file)
    ledger.add(
        (1, "t01", Event(meter.id, "S1", "standard", AT + k, k, "", 0))
        for k, meter in enumerate(meters)
    )
    ledger.close()
    own = [k for k, meter in enumerate(meters) if meter.transformer == "t01"]
    assert 1 < len(own) < len(meters)

    found = client.get("/api/v1/transformers/t01/events").json()["events"]
    assert [(one["meter"], one["code"]) for one in found] == [
        (meters[k].id, k) for k in reversed(own)
    ]
    path = f"/api/v1/transformers/t01/events?first={AT + own[1]}&most=1"
    assert [one["code"] for one in client.get(path).json()["events"]] == [own[-1]]
    assert client.get("/api/v1/transformers/t99/events").status_code == 404
    assert client.get(f"/api/v1/transformers/t01/events?first={1 << 64}").status_code == 422


def test_a_file_that_the_loader_has_not_finished_is_empty(
    client: TestClient, config: Config
) -> None:
    sqlite3.connect(config.events_file).close()
    config.events_file.touch()
    assert client.get("/api/v1/transformers/t01/events").json()["events"] == []
