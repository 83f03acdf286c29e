"""The same day with agents, broker and collector failing: nothing lost, nothing twice."""

from __future__ import annotations

import pytest

from hil.proof import Proof, prove
from hil.site.installation import Installation
from hil.site.passing import pass_until, recovered, settle, wait_for

SPEED = 360.0
QUARTER_S = 900
HOUR_S = 3600
DAY_S = 86_400

FAULTS = (
    (2.2, "agent-t01"),
    (5.1, "broker"),
    (8.3, "agent-t02"),
    (10.1, "meters-0"),
    (12.0, "collect"),
    (15.4, "broker"),
    (18.6, "agent-t01"),
)
"""Hours into the day, and what fails: agents, collector and the far end of the serial lines (which
comes back as a new port under the old name) by kill -9, the broker by a restart."""


@pytest.fixture(scope="module")
def proof(make_site) -> Proof:
    site: Installation = make_site()
    start_utc_s = site.settings.start_utc_s
    site.start_broker()
    site.start_meters()
    site.start_central()
    site.start_agents()
    wait_for(site, lambda: recovered(site), 90.0, "the recovery of two days")
    site.set_speed(SPEED)
    for hours, name in FAULTS:
        pass_until(site, start_utc_s + hours * HOUR_S)
        if name == "broker":
            site.restart_broker()
        else:
            site.kill_and_start(name)
    last_end_utc_s = (start_utc_s + DAY_S) // QUARTER_S * QUARTER_S
    pass_until(site, last_end_utc_s + 60)
    settle(site, last_end_utc_s)
    first_end_utc_s = -(-(start_utc_s - site.settings.recover_days * DAY_S) // QUARTER_S)
    return prove(site, (first_end_utc_s + 1) * QUARTER_S, last_end_utc_s, SPEED)


@pytest.mark.slow
def test_centrals_ledger_equals_the_meters_own_although_all_of_it_failed(proof: Proof) -> None:
    assert proof.wrong == []


@pytest.mark.slow
def test_what_a_dead_agent_could_not_sample_is_reported_missing_and_little_else(
    proof: Proof,
) -> None:
    assert proof.intervals > 0
    assert proof.interpolated > 0
    # Three killed agents, each back within moments: a few intervals of their sampled meters.
    assert proof.missing <= proof.interpolated // 4
