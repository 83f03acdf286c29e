"""An agent off for 36 hours: central gets every interval, and live ones stay on time meanwhile."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from central.config import load_config
from central.readings.query import Readings
from hil.proof import Proof, prove
from hil.site.installation import Installation
from hil.site.passing import pass_until, recovered, settle, wait_for

SPEED = 150.0
QUARTER_S = 900
OFF_S = 36 * 3600
AGENT = "agent-t01"


@dataclass(frozen=True)
class Gap:
    """What came of it."""

    site: Installation
    first_end_utc_s: int
    last_end_utc_s: int
    on_utc_s: float
    """When the agent was back."""
    recovered_utc_s: float
    """When it had recovered all."""


@pytest.fixture(scope="module")
def gap(make_site, town_choice) -> Gap:
    choice = replace(town_choice, transformers=("t01",), meters_each=8)
    site: Installation = make_site(choice=choice, meter_hosts=1)
    site.start_broker()
    site.start_meters()
    site.start_central()
    site.start_agents()
    wait_for(site, lambda: recovered(site), 60.0, "the recovery of two days")
    before = _state(site)["boot"]
    site.processes.stop(AGENT)
    # The lines from now on take as long as at their baud rates, so that recovery takes its time.
    site.processes.stop("meters-0")
    site.settings = replace(site.settings, paced=True)
    on_utc_s = site.clock.now_utc_s() + OFF_S
    site.set_clock(on_utc_s, 1.0)
    site.start_meters()
    site.start_agents()
    wait_for(site, lambda: _state(site)["boot"] != before, 20.0, "the agent")
    site.set_speed(SPEED)
    wait_for(site, lambda: _is_whole(_state(site)), 60.0, "the recovery of 36 hours")
    recovered_utc_s = site.clock.now_utc_s()
    last_end_utc_s = (int(recovered_utc_s) // QUARTER_S + 1) * QUARTER_S
    pass_until(site, last_end_utc_s + 60)
    settle(site, last_end_utc_s)
    first_utc_s = site.settings.start_utc_s - site.settings.recover_days * 86_400
    first_end_utc_s = (-(-first_utc_s // QUARTER_S) + 1) * QUARTER_S
    return Gap(site, first_end_utc_s, last_end_utc_s, on_utc_s, recovered_utc_s)


def _state(site: Installation) -> dict[str, Any]:
    path = site.layout.agent("t01") / "data" / "status.json"
    state: dict[str, Any] = json.loads(path.read_text())
    return state


def _is_whole(state: dict[str, Any]) -> bool:
    recovery = state["recovery"]
    return bool(recovery["known"] >= recovery["expected"] > 0)


@pytest.fixture(scope="module")
def proof(gap: Gap) -> Proof:
    return prove(gap.site, gap.first_end_utc_s, gap.last_end_utc_s, SPEED)


def test_centrals_ledger_of_the_meters_with_a_profile_is_whole_and_true_to_the_wh(
    gap: Gap, proof: Proof
) -> None:
    profile = [meter.id for meter in gap.site.town.meters if meter.protocol == "dlms"]
    assert len(profile) >= 2
    assert [wrong for wrong in proof.wrong if wrong.split(":")[0] in profile] == []
    ends = (gap.last_end_utc_s - gap.first_end_utc_s) // QUARTER_S + 1
    assert proof.intervals == ends * len(profile)


def test_live_intervals_are_on_time_throughout_the_recovery(gap: Gap) -> None:
    """On time: central has stored the interval before the next one ends."""
    received = _received_utc_s(gap.site.layout.central / "journal")
    readings = Readings(load_config(gap.site.layout.central_config))
    profile = [meter.id for meter in gap.site.town.meters if meter.protocol == "dlms"]
    first_live = (int(gap.on_utc_s) // QUARTER_S + 1) * QUARTER_S
    late_s = {
        (meter, row["end_utc_s"]): received[row["stream"], row["seq"]] - row["end_utc_s"]
        for meter in profile
        for row in readings.meter_series(meter, first_live, gap.last_end_utc_s).to_pylist()
    }
    during = {end for _, end in late_s if end < gap.recovered_utc_s}
    assert len(during) >= 2, "the recovery was over before a live interval came"
    assert max(late_s.values()) < QUARTER_S, sorted(late_s.items(), key=lambda one: -one[1])[:5]


def _received_utc_s(journal: Path) -> dict[tuple[str, int], int]:
    """When central committed each batch, by stream and number."""
    found: dict[tuple[str, int], int] = {}
    for file in journal.glob("????-??-??.db"):
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            for stream, seq, at_utc_s in database.execute(
                "select stream, seq, received_utc_s from batch"
            ):
                found[stream.hex(), seq] = at_utc_s
    return found
