"""The state that the bench bills is one that an agent could publish."""

from __future__ import annotations

from agent.telling import what_matters, without_names
from hil.bench.wire_month import agent_state


def test_the_state_that_is_billed_goes_the_way_of_an_agents_own() -> None:
    told = without_names(agent_state())
    assert told["lines"][0]["failing"] == 0
    assert "meter" not in told["meter_clocks"]["worst"]
    assert what_matters({**told, "next": 1}) == what_matters(told)
