"""What a meter epoch is called, by serial number or by what the counters show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.interval.epoch import given_serial, named, next_by_evidence


@pytest.mark.parametrize(
    ("text", "following"),
    [("", "?2"), ("?2", "?3"), ("?9", "?10"), ("21000035", "21000035?2"), ("A?2", "A?3")],
)
def test_each_break_of_an_unnamed_meter_opens_the_next_epoch(text: str, following: str) -> None:
    assert next_by_evidence(text) == following


@pytest.mark.parametrize(
    ("text", "told", "by_hand", "present"),
    [
        ("", None, "", ""),
        ("?2", None, "", "?2"),
        ("A1", None, "", "A1"),
        ("A1", "B2", "", "B2"),
        ("?3", "B2", "", "B2"),
        ("A1?2", "A1", "", "A1?2"),
        ("A1?2", "B2", "", "B2"),
        ("A1", "B2", "H1", "B2"),
        ("", None, "H1", "H1"),
        ("H1", None, "H1", "H1"),
        ("H1?2", None, "H1", "H1?2"),
        ("H1?2", None, "H2", "H2"),
    ],
)
def test_a_told_serial_number_counts_first_then_the_one_set_by_hand(
    text: str, told: str | None, by_hand: str, present: str
) -> None:
    assert named(text, told=told, by_hand=by_hand) == present


@given(st.text(max_size=12), st.integers(1, 20))
def test_breaks_never_give_a_name_twice_and_keep_the_given_serial(text: str, breaks: int) -> None:
    names = [text]
    for _ in range(breaks):
        names.append(next_by_evidence(names[-1]))
    assert len(set(names)) == len(names)
    assert {given_serial(name) for name in names} == {given_serial(text)}
