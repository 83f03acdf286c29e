"""The retained state: what matters goes out at once, numbers alone cost a metered link little."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.telling import SETTLED_S, SOONEST_S, Telling, without_names

EVERY_S = 21_600
DAY_S = 86_400


def state(**changed: Any) -> dict[str, Any]:
    line = {"name": "l1", "open": True, "failing": [], "busy_share": 0.25}
    whole = {
        "online": True,
        "clock": "trusted",
        "alarms": [],
        "next": 17,
        "outbox": 0,
        "held": 0,
        "receipt_age_s": 4,
        "recovery": {"known": 19_200, "expected": 19_200},
        "meter_clocks": {"read": 3, "untrusted": 0, "off": 0},
        "lines": [line],
    }
    return {**whole, **changed}


def told() -> Telling:
    telling = Telling(EVERY_S)
    assert telling.due(state(), 0.0)
    return telling


def test_a_birth_is_told_at_once_and_again_in_each_session() -> None:
    telling = told()
    assert not telling.due(state(), SOONEST_S + 1)
    telling.begin()
    assert telling.due(state(), SOONEST_S + 1)


def test_each_change_that_somebody_would_act_on_is_told_at_once() -> None:
    for change in (
        {"alarms": ["clone"]},
        {"clock": "untrusted"},
        {"held": 3},
        {"outbox": 8},
        {"recovery": {"known": 9_000, "expected": 19_200}},
        {"meter_clocks": {"read": 3, "untrusted": 0, "off": 1}},
        {"lines": [{"name": "l1", "open": False, "failing": []}]},
        {"lines": [{"name": "l1", "open": True, "failing": ["m7"]}]},
    ):
        telling = told()
        assert not telling.due(state(**change), SOONEST_S - 0.1)
        assert telling.due(state(**change), SOONEST_S), change


def test_what_it_settles_to_is_told_a_minute_later_once() -> None:
    telling = told()
    assert telling.due(state(outbox=300), 100.0)
    assert telling.due(state(outbox=3), 110.0)
    settled = state(outbox=1, next=318)
    assert not telling.due(settled, 110.0 + SETTLED_S - 1)
    assert telling.due(settled, 110.0 + SETTLED_S)
    assert not telling.due(state(outbox=0, next=319), 110.0 + 3 * SETTLED_S)


def test_numbers_alone_wait_and_what_is_the_same_is_never_told_again() -> None:
    telling = told()
    assert telling.due(state(next=18), SETTLED_S)
    assert not telling.due(state(next=90), SETTLED_S + EVERY_S - 1)
    assert telling.due(state(next=91), SETTLED_S + EVERY_S)
    assert not telling.due(state(next=91, receipt_age_s=90_000), 9 * EVERY_S)


def test_what_the_broker_reads_names_no_meter() -> None:
    clocks = {"read": 3, "untrusted": 0, "off": 1, "worst": {"meter": "m7", "ahead_s": 42.0}}
    line = {"name": "l1", "open": True, "failing": ["m7", "m8"], "busy_share": 0.25}
    shown = without_names(state(lines=[line], meter_clocks=clocks))
    assert "m7" not in str(shown)
    assert shown["lines"][0]["failing"] == 2
    assert shown["meter_clocks"]["worst"] == {"ahead_s": 42.0}
    assert without_names({"online": True}) == {"online": True}


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), min_size=96, max_size=96))
def test_a_day_without_incidents_costs_six_states_at_most(moves: list[tuple[int, float]]) -> None:
    telling, count = Telling(EVERY_S), 0
    for quarter, (waiting, busy) in enumerate(moves):
        line = {"name": "l1", "open": True, "failing": [], "busy_share": busy}
        known = {"known": 19_000 + waiting * 50, "expected": 19_200}
        now = state(next=quarter, outbox=waiting, lines=[line], recovery=known)
        for at_s in range(quarter * 900, quarter * 900 + 900, 60):
            count += telling.due(now, at_s)
    assert count <= 2 + DAY_S // EVERY_S
