"""What comes only through the serial lines, and what one bad meter costs the others."""

from __future__ import annotations

import json

from hil.proof import prove
from hil.site.installation import Installation
from hil.site.passing import pass_until, recovered, settle, wait_for

SPEED = 240.0
QUARTER_S = 900
INTERVALS = 8


def test_a_meter_that_answers_garbage_costs_its_neighbours_nothing(make_site, town) -> None:
    meters = [meter for meter in town.meters_of("t01") if meter.kind != "check"]
    garbled = {
        next(meter.id for meter in meters if meter.protocol == protocol)
        for protocol in ("modbus", "dlms")
    }
    site: Installation = make_site(recover_days=1, garbled=tuple(sorted(garbled)))
    site.start_broker()
    site.start_meters()
    site.start_central()
    site.start_agents()
    healthy = len(site.town.meters) - len(garbled)
    share = healthy / len(site.town.meters)
    wait_for(
        site,
        lambda: (
            all(
                device["state"]
                and device["recovery"]["known"] >= 0.8 * share * device["recovery"]["expected"] > 0
                for device in site.devices_seen()
            )
            and len(site.devices_seen()) == len(site.devices)
        ),
        90.0,
        "the recovery of the healthy meters",
    )
    site.set_speed(SPEED)
    start_utc_s = site.settings.start_utc_s
    first_end_utc_s = (start_utc_s // QUARTER_S + 1) * QUARTER_S
    last_end_utc_s = first_end_utc_s + (INTERVALS - 1) * QUARTER_S
    pass_until(site, last_end_utc_s + 120)
    site.set_speed(1.0)
    wait_for(
        site,
        lambda: all(
            device["state"]["last_end_utc_s"] >= last_end_utc_s and device["outbox"] == 0
            for device in site.devices_seen()
        ),
        60.0,
        "the last interval",
    )
    proof = prove(site, first_end_utc_s, last_end_utc_s, SPEED)
    assert [fault for fault in proof.wrong if fault.split(":")[0] not in garbled] == []
    assert proof.intervals == INTERVALS * (
        sum(meter.protocol == "dlms" for meter in site.town.meters) - 1
    )
    device, *_ = site.devices_seen()
    assert sum(line["failing"] for line in device["state"]["lines"]) == len(garbled)
    status = json.loads((site.layout.agent(site.devices[0]) / "data" / "status.json").read_text())
    assert {name for line in status["lines"] for name in line["failing"]} == garbled


def test_with_the_broker_stopped_the_map_stays_empty(make_site) -> None:
    site: Installation = make_site(recover_days=1)
    site.start_broker()
    site.start_meters()
    site.start_central()
    site.processes.stop("broker")
    site.start_agents()

    def agents_hold_readings() -> bool:
        stores = [site.layout.agent(device) / "data" / "status.json" for device in site.devices]
        return all(
            store.exists() and '"rows_total": 0' not in store.read_text() for store in stores
        )

    wait_for(site, agents_hold_readings, 60.0, "the agents' first readings")
    catalog = site.get("api/v1/catalog")
    assert catalog["days"] == []
    assert catalog["last_end_utc_s"] is None
    assert site.get("api/v1/grid/cells")["features"], "the grid is there"
    # What was kept back arrives once the broker is there, and only then is there a map.
    site.start_broker()
    wait_for(site, lambda: recovered(site), 120.0, "what the agents had kept")
    settle(site, 0)
    assert site.get("api/v1/catalog")["days"]
