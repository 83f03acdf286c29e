"""Two concentrators with one identity, told from one that restarts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from central.collect.clones import RETURNS, WITHIN_S, Clones


def births(boots: str, *, every_s: float = 60.0) -> list[bool]:
    clones = Clones()
    return [clones.birth("t01", boot, k * every_s) for k, boot in enumerate(boots)]


def test_a_device_that_restarts_or_repeats_its_birth_is_no_clone() -> None:
    assert not any(births("aaabbbcdefghijklmnop"))


def test_two_that_take_turns_are_found_by_the_third_return() -> None:
    assert births("ababab") == [False] * (1 + RETURNS) + [True, True]


def test_a_broker_that_shows_an_old_birth_once_proves_nothing() -> None:
    assert not any(births("abcbcd"))


def test_returns_of_different_days_prove_nothing() -> None:
    assert not any(births("ababababab", every_s=WITHIN_S))


def test_one_devices_births_say_nothing_about_another() -> None:
    clones = Clones()
    seen = [clones.birth(device, "a", 0.0) for device in "xyxyxyxyxy"]
    assert not any(seen)


@given(st.lists(st.integers(1, 3), max_size=40))
def test_a_device_alone_is_never_called_a_clone(repeats: list[int]) -> None:
    boots = [f"boot{k}" for k, times in enumerate(repeats) for _ in range(times)]
    clones = Clones()
    assert not any(clones.birth("t01", boot, float(k)) for k, boot in enumerate(boots))
