"""The API over a tiny town: shapes, caching, login, events."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from central.api.app import create_app
from central.api.centre import Centre
from central.api.live_routes import version_events
from central.api.places import grid_bodies
from central.api.users import UserRefused, add_user
from central.config import Config, load_config
from central.grid.load import load_folder
from central.grid.model import load_grid
from central.map.aggregate import refresh
from central.map.aggregates import Aggregates
from central.map.blocks import decode_map_block
from central.readings.events import EventLedger
from wire.clock import set_shared_clock
from wire.events import Event

WriteTown = Callable[..., Path]
DAY = date(2024, 1, 15)
DAY_UTC_S = 1705276800
STEPS_OVER = 48
CSP = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; style-src 'self'"
)


def write_config(folder: Path, *, is_open: bool = True) -> Config:
    set_shared_clock(folder / "clock.json", DAY_UTC_S + STEPS_OVER * 900, 0.0)
    path = folder / "central.toml"
    path.write_text(
        f"""
tenant = "demo"
data_dir = "data"
clock_file = "clock.json"
[broker]
host = "127.0.0.1"
ca_file = "ca"
cert_file = "cert"
key_file = "key"
[keys]
dir = "keys"
[api]
open = {str(is_open).lower()}
"""
    )
    return load_config(path)


class Town:
    """A centre with a loaded grid and half a day of readings."""

    def __init__(self, folder: Path, files: Path, readings) -> None:
        self.config = write_config(folder)
        load_folder(self.config.registry_file, files)
        self.grid = load_grid(self.config.registry_file)
        self.readings = readings
        self.ids = [meter.id for meter in self.grid.meters]
        random = np.random.default_rng(1)
        shape = (len(self.ids), 96)
        self.import_wh = random.integers(100, 2000, shape).astype(float)
        self.export_wh = random.integers(0, 90, shape).astype(float)
        self.varh = random.integers(0, 300, shape).astype(float)
        self.import_wh[:, STEPS_OVER:] = np.nan
        self.aggregates = Aggregates(self.config.aggregates_file)
        self.refresh()

    def refresh(self) -> None:
        self.readings.put(DAY, self.ids, self.import_wh, self.export_wh, self.varh)
        self.readings.last_end_utc_s = lambda: DAY_UTC_S + STEPS_OVER * 900
        refresh({DAY}, self.readings, self.grid, self.aggregates)


@pytest.fixture
def town(tmp_path: Path, town_files: WriteTown, stand_in_readings) -> Iterator[Town]:
    made = Town(tmp_path, town_files(transformers=2, households=6), stand_in_readings)
    yield made
    made.aggregates.close()


@pytest.fixture
def client(town: Town) -> TestClient:
    return TestClient(create_app(town.config))


def test_the_catalog_says_what_there_is(client: TestClient, town: Town) -> None:
    catalog = client.get("/api/v1/catalog").json()

    assert catalog["tenant"] == "demo"
    assert catalog["town"]["bbox"] == [7.9, 48.4, 8.2, 48.5]
    assert catalog["interval_s"] == 900
    assert catalog["clock"] == {"now_utc_s": DAY_UTC_S + STEPS_OVER * 900, "speed": 0.0}
    assert catalog["last_end_utc_s"] == DAY_UTC_S + STEPS_OVER * 900
    assert catalog["grid_version"] == town.grid.version
    assert catalog["days"] == [
        {"day": "2024-01-15", "first_end_utc_s": DAY_UTC_S + 900, "steps": STEPS_OVER}
    ]
    layers = {layer["id"]: layer for layer in catalog["layers"]}
    assert list(layers) == ["load_density", "utilisation", "ev_charging", "pv_export"]
    for layer in layers.values():
        assert layer["kind"] == "cell"
        assert layer["palette"] in ("cividis", "blue-orange")
        assert len(layer["breaks"]) in (5, 6)
        assert layer["breaks"] == sorted(layer["breaks"])
        assert layer["title"]
        assert layer["description"]
    assert set(catalog["versions"]) == set(layers)
    assert catalog["coverage"] == {"2024-01-15": 1.0}


def test_a_block_is_named_by_its_content_and_kept_for_ever(client: TestClient) -> None:
    version = client.get("/api/v1/catalog").json()["versions"]["load_density"]["2024-01-15"]
    url = f"/api/v1/layers/load_density/2024-01-15/{version}"

    response = client.get(url)

    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-encoding"] == "gzip"
    assert "immutable" in response.headers["cache-control"]
    assert hashlib.sha256(response.content).hexdigest() == version
    block = decode_map_block(response.content)
    assert block.unit == "MW/km²"
    assert np.isnan(block.values()[STEPS_OVER:]).all()
    assert not np.isnan(block.values()[:STEPS_OVER]).any()
    plain = client.get(url, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == response.content
    again = client.get(url, headers={"if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_places_come_as_geojson_and_a_known_one_costs_nothing(
    client: TestClient, town: Town
) -> None:
    cells = client.get("/api/v1/grid/cells")
    assert cells.headers["cache-control"] == "no-cache"
    features = cells.json()["features"]
    assert [f["properties"]["index"] for f in features] == list(range(len(features)))
    assert set(features[0]["properties"]) == {
        "index", "cell", "area_km2", "service_points", "transformer",
    }  # fmt: skip
    assert features[0]["geometry"]["type"] == "Polygon"
    known = {"if-none-match": cells.headers["etag"]}
    assert client.get("/api/v1/grid/cells", headers=known).status_code == 304
    pinned = client.get(f"/api/v1/grid/cells?v={town.grid.version}")
    assert "immutable" in pinned.headers["cache-control"]

    network = client.get("/api/v1/grid/network").json()["features"]
    assert set(network[0]["properties"]) == {
        "id", "transformer", "kind", "type", "i_max_a", "length_m",
    }  # fmt: skip
    units = client.get("/api/v1/grid/transformers").json()["features"]
    assert units[0]["properties"] == {"id": "t01", "name": "Station 1", "rated_kva": 400.0}


def test_utilisation_and_load_curve_agree_with_the_check_meter(
    client: TestClient, town: Town
) -> None:
    check = town.ids.index(town.grid.transformers[1].check_meter)
    net_wh = town.import_wh[check] - town.export_wh[check]
    apparent_va = 4 * np.hypot(net_wh, town.varh[check])[:STEPS_OVER]

    day = client.get("/api/v1/transformers/utilisation/2024-01-15").json()
    load = client.get("/api/v1/transformers/t02/load?day=2024-01-15").json()

    assert day["transformers"] == ["t01", "t02"]
    assert len(day["percent"][1]) == 96
    assert day["percent"][1][:STEPS_OVER] == pytest.approx(apparent_va / 4000, abs=0.006)
    assert day["percent"][1][STEPS_OVER:] == [None] * (96 - STEPS_OVER)
    assert load["end_utc_s"] == [DAY_UTC_S + 900 * (k + 1) for k in range(STEPS_OVER)]
    assert load["apparent_va"] == pytest.approx(apparent_va, abs=0.6)
    assert load["active_w"] == pytest.approx(4 * net_wh[:STEPS_OVER], abs=0.6)
    assert load["percent"] == pytest.approx(apparent_va / 4000, abs=0.006)
    assert len(load["hot_spot_c"]) == STEPS_OVER
    assert load["rated_kva"] == 400
    first, last = load["end_utc_s"][3], load["end_utc_s"][7]
    piece = client.get(f"/api/v1/transformers/t02/load?first={first}&last={last}").json()
    assert piece["apparent_va"] == load["apparent_va"][3:8]
    assert piece["hot_spot_c"] == load["hot_spot_c"][3:8]


def test_the_asset_record_has_every_part_and_its_peak_is_the_load_curves(
    client: TestClient,
) -> None:
    record = client.get("/api/v1/transformers/t01").json()
    load = client.get("/api/v1/transformers/t01/load?day=2024-01-15").json()

    assert set(record) == {
        "position", "identity", "rating", "loading", "ageing", "customers", "meters",
    }  # fmt: skip
    assert record["position"]["id"] == "t01"
    assert record["identity"]["synthetic"] is True
    assert record["rating"]["rated_kva"] == 400
    assert record["loading"]["peak_percent"] == max(load["percent"])
    peak = load["percent"].index(max(load["percent"]))
    assert record["loading"]["peak_utc_s"] == load["end_utc_s"][peak]
    assert record["loading"]["source"] == "check meter"
    assert record["ageing"]["hot_spot_max_c"] == max(load["hot_spot_c"])
    assert record["ageing"]["method"].startswith("IEC 60076-7")
    assert record["ageing"]["coverage"] == 1.0
    assert record["meters"]["reporting"] == 8


def test_a_cells_load_is_exact(client: TestClient, town: Town) -> None:
    cells = client.get("/api/v1/grid/cells").json()["features"]
    total = np.zeros(STEPS_OVER)
    for cell in cells:
        index = cell["properties"]["index"]
        load = client.get(f"/api/v1/cells/{index}/load?day=2024-01-15").json()
        assert len(load["end_utc_s"]) == STEPS_OVER
        assert load["meters_reporting"] == [load["meters"]] * STEPS_OVER
        total += np.array(load["import_w"])
    below = [m for m, meter in enumerate(town.grid.meters) if meter.service_point]
    assert total == pytest.approx(4 * town.import_wh[below, :STEPS_OVER].sum(axis=0))


@pytest.mark.parametrize(
    ("url", "status", "word"),
    [
        ("/api/v1/transformers/t99", 404, "t99"),
        ("/api/v1/transformers/t01/load", 422, "expected either day"),
        ("/api/v1/transformers/t01/load?day=2024-01-15&first=1", 422, "expected either day"),
        ("/api/v1/transformers/utilisation/2020-01-01", 404, "2020-01-01"),
        ("/api/v1/cells/9999/load?day=2024-01-15", 404, "expected a cell"),
        ("/api/v1/cells/0/load?day=2020-01-01", 404, "2020-01-01"),
        ("/api/v1/layers/load_density/2024-01-15/abc", 404, "catalog"),
        ("/api/v1/layers/load_density/yesterday/abc", 422, ""),
        ("/api/v1/nothing", 404, ""),
    ],
)
def test_a_wrong_question_gets_a_sentence(
    client: TestClient, url: str, status: int, word: str
) -> None:
    response = client.get(url)
    assert response.status_code == status
    assert word in json.dumps(response.json()["detail"])


def test_without_a_grid_every_answer_says_how_to_load_one(tmp_path: Path) -> None:
    client = TestClient(create_app(write_config(tmp_path)))
    response = client.get("/api/v1/catalog")
    assert response.status_code == 503
    assert "grid load" in response.json()["detail"]
    assert client.get("/api/v1/devices").json() == {"devices": []}


def test_another_grid_hides_what_was_computed_with_the_old_one(
    client: TestClient, town: Town, town_files: WriteTown
) -> None:
    load_folder(town.config.registry_file, town_files("other", households=3))
    catalog = client.get("/api/v1/catalog").json()
    assert catalog["grid_version"] != town.grid.version
    assert catalog["days"] == []
    assert catalog["versions"] == {}
    assert client.get("/api/v1/transformers/t01").json()["loading"]["peak_percent"] is None


def test_a_grid_without_readings_is_an_empty_map(tmp_path: Path, town_files: WriteTown) -> None:
    config = write_config(tmp_path)
    load_folder(config.registry_file, town_files())
    client = TestClient(create_app(config))
    catalog = client.get("/api/v1/catalog").json()
    assert (catalog["days"], catalog["versions"], catalog["last_end_utc_s"]) == ([], {}, None)
    assert client.get("/api/v1/grid/cells").status_code == 200
    load = client.get("/api/v1/transformers/t01/load?day=2024-01-15").json()
    assert load["end_utc_s"] == []


def test_every_answer_is_fenced_in_and_counted(client: TestClient) -> None:
    for url in ("/api/v1/catalog", "/api/v1/nothing", "/metrics"):
        headers = client.get(url).headers
        assert headers["content-security-policy"].startswith(CSP)
        assert headers["x-content-type-options"] == "nosniff"
    metrics = client.get("/metrics").text
    assert 'loadscape_api_answers_total{status="2xx"} 2' in metrics
    assert 'loadscape_api_answers_total{status="4xx"} 1' in metrics
    assert f"loadscape_api_last_end_utc_seconds {DAY_UTC_S + STEPS_OVER * 900}" in metrics


def test_the_page_is_served_with_hashed_files_kept_for_ever(town: Town, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    (dist / "assets").mkdir(parents=True)
    (dist / "index.html").write_text("<!doctype html><title>Loadscape</title>")
    (dist / "assets" / "main-1a2b.js").write_text("export {};")
    client = TestClient(create_app(town.config, web_dist=dist))
    page = client.get("/")
    assert "Loadscape" in page.text
    assert page.headers["cache-control"] == "no-cache"
    assert "immutable" in client.get("/assets/main-1a2b.js").headers["cache-control"]
    assert client.get("/..%2fcentral.toml").status_code == 404
    bare = TestClient(create_app(town.config, web_dist=tmp_path / "none"))
    assert "not built" in bare.get("/").json()["detail"]


def test_events_tell_the_state_at_once_and_again_after_every_change(town: Town) -> None:
    centre = Centre(town.config, grid_bodies)

    async def listen() -> list[dict[str, object]]:
        events = version_events(centre)
        told = [await asyncio.wait_for(anext(events), 10)]
        town.import_wh[:, :STEPS_OVER] += 40
        await asyncio.to_thread(_in_another_thread, town)
        told.append(await asyncio.wait_for(anext(events), 10))
        await events.aclose()
        for message in told:
            assert message.startswith(b"event: version\ndata: ")
            assert message.endswith(b"\n\n")
        return [json.loads(message.split(b"data: ")[1]) for message in told]

    before, after = asyncio.run(listen())
    assert set(before) == {"last_end_utc_s", "versions", "coverage"}
    assert before["versions"] != after["versions"]


def _in_another_thread(town: Town) -> None:
    town.readings.put(DAY, town.ids, town.import_wh, town.export_wh, town.varh)
    writer = Aggregates(town.config.aggregates_file)
    refresh({DAY}, town.readings, town.grid, writer)
    writer.close()


def test_outside_the_demo_nothing_answers_without_a_login(town: Town, tmp_path: Path) -> None:
    config = write_config(tmp_path, is_open=False)
    assert add_user(config.registry_file, "ada", "a long password")
    client = TestClient(create_app(config))
    for url in ("/", "/api/v1/catalog", "/api/v1/events", "/metrics", "/api/v1/openapi.json"):
        refused = client.get(url)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic ")
        assert "users add" in refused.json()["detail"]
    wrong = [("ada", "a wrong password"), ("eve", "a long password"), ("ada", "")]
    assert all(client.get("/api/v1/catalog", auth=pair).status_code == 401 for pair in wrong)
    for broken in ("Basic !!!", "Basic " + base64.b64encode(b"\xff").decode(), "Bearer x"):
        headers = {"authorization": broken}
        assert client.get("/api/v1/catalog", headers=headers).status_code == 401

    right = ("ada", "a long password")
    assert client.get("/api/v1/catalog", auth=right).status_code == 200
    metrics = client.get("/metrics", auth=right).text
    assert "loadscape_api_logins_refused_total 3" in metrics
    assert not add_user(config.registry_file, "ada", "another password")
    assert client.get("/api/v1/catalog", auth=right).status_code == 401
    assert client.get("/api/v1/catalog", auth=("ada", "another password")).status_code == 200


@pytest.mark.parametrize(("name", "password"), [("ada", "short"), ("a:b", "a long password")])
def test_an_account_that_could_not_work_is_refused(
    tmp_path: Path, name: str, password: str
) -> None:
    with pytest.raises(UserRefused):
        add_user(tmp_path / "registry.db", name, password)


def test_large_json_is_gzipped(client: TestClient) -> None:
    response = client.get("/api/v1/catalog")
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["vary"] == "Accept-Encoding"


def test_a_meters_events_are_shown_newest_first_and_by_log(client: TestClient, town: Town) -> None:
    meter = town.ids[0]
    assert client.get(f"/api/v1/meters/{meter}/events").json() == {"meter": meter, "events": []}
    ledger = EventLedger(town.config.events_file)
    ledger.add(
        (1, "t01", Event(meter, "S1", log, DAY_UTC_S + k, 40 + k, "", 0))
        for k, log in enumerate(["standard", "fraud", "standard"])
    )
    ledger.close()

    found = client.get(f"/api/v1/meters/{meter}/events?most=2").json()["events"]
    assert [event["code"] for event in found] == [42, 41]
    found = client.get(f"/api/v1/meters/{meter}/events?log=fraud").json()["events"]
    assert [(event["code"], event["device"]) for event in found] == [(41, "t01")]
    assert client.get("/api/v1/meters/nobody/events").status_code == 404
    assert client.get(f"/api/v1/meters/{meter}/events?most=0").status_code == 422


def test_a_meters_revisions_are_asked_for_a_month_at_most(client: TestClient, town: Town) -> None:
    path = f"/api/v1/meters/{town.ids[0]}/revisions"
    assert client.get(f"{path}?first={DAY_UTC_S}&last={DAY_UTC_S + 900}").json()["revisions"] == []
    assert client.get(f"{path}?first={DAY_UTC_S}&last={DAY_UTC_S + 32 * 86400}").status_code == 422
    assert client.get(path).status_code == 422
