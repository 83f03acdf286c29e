"""A fleet that lost its broker comes back spread out, soon, and with patience for long outages."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from agent.backoff import LONGEST_S, SHORTEST_S, Backoff

AGENTS = 1000
HANDSHAKE_S = 0.05


def comes_back(outage_s: float, seed: int) -> list[float]:
    """When each of a thousand agents is connected again, s after the broker came back.

    All lose the connection in the same instant, as when a region's broker goes.
    """
    draw = random.Random(seed)
    agents = [Backoff(draw.uniform) for _ in range(AGENTS)]
    attempts = [(agent.delay_s(), number) for number, agent in enumerate(agents)]
    heapq.heapify(attempts)
    back = []
    while attempts:
        at_s, number = heapq.heappop(attempts)
        if at_s >= outage_s:
            back.append(at_s - outage_s)
            continue
        heapq.heappush(attempts, (at_s + HANDSHAKE_S + agents[number].delay_s(), number))
    return back


def peak_per_s(instants_s: list[float]) -> int:
    return max(Counter(int(at_s) for at_s in instants_s).values())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("outage_s", "most_per_s", "all_within_s"),
    [(30, 90, 512), (600, 16, LONGEST_S), (3600, 12, LONGEST_S), (43_200, 12, LONGEST_S)],
)
def test_a_thousand_agents_do_not_come_in_one_second(
    outage_s: float, most_per_s: int, all_within_s: float, seed: int
) -> None:
    back = comes_back(outage_s, seed)
    assert len(back) == AGENTS
    assert peak_per_s(back) <= most_per_s
    assert max(back) <= all_within_s


def test_without_jitter_the_same_fleet_comes_at_once() -> None:
    same = [Backoff(lambda least, most: most) for _ in range(AGENTS)]
    assert len({agent.delay_s() for agent in same}) == 1


def test_delays_grow_to_a_quarter_hour_and_begin_anew_once_a_connection_lasted() -> None:
    longest = Backoff(lambda least, most: most)
    assert [longest.delay_s() for _ in range(12)] == [
        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, LONGEST_S, LONGEST_S,
    ]  # fmt: skip
    longest.lasted()
    assert longest.delay_s() == 1
    assert Backoff(lambda least, most: least).delay_s() == SHORTEST_S


def test_who_was_taken_over_waits_as_after_many_failures() -> None:
    longest = Backoff(lambda least, most: most)
    longest.taken_over()
    assert longest.delay_s() == 64
