"""Whom to ask next on one line, and until when: no port, no sleep, time handed in.

What is most urgent comes first: the samples right after an edge, which close
the interval; the samples right before the next one, begun as late as the bus
allows; the cycle, in which every meter has a phase of its own; then, in what
time is left, a bounded slice of the load profiles' missing rows. Of several
that are due the one asked longest ago is asked first, so that nobody starves
on a line that is too slow for its cycle.

A meter that fails leaves this order. It is asked again within seconds as long
as the line has nothing else to do, and otherwise in a small share of its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from agent.poll.back_off import MOST_OWED_S, RESTING_EARNS, BackOff
from agent.poll.turn import (
    SPACING_S,
    Ask,
    Finish,
    Known,
    MeterOnLine,
    Now,
    Rest,
    Turn,
    lead_s,
    longest_waiting,
    oldest,
)

__all__ = ["Ask", "Finish", "Known", "MeterOnLine", "Now", "Rest", "Schedule"]

STEP_S = 0.2
"""Longest rest: the clock's speed may have changed after it."""
_LEAST_REST_S = 0.001
_LIVE_ENDS = 16
"""Most ends of one meter that are read in the round after an edge."""
_SLICE_S = 2.0
"""Real time that one slice of recovery should take."""
_SLICE_ENDS = (4, 192)
_SET_BACK_S = 86_400
"""A clock that is set back by more begins its edges anew; by less, they wait for their time."""
_ROOM_SHARE = 0.25
"""Room of this share of an interval is enough for a probe or a chore, however long it takes."""


class Schedule:
    """The order of one line. Every `Ask` is answered by `answered`, `failed` or `passed_over`."""

    def __init__(
        self, meters: Sequence[Known], *, interval_s: int, sample_s: int, now_utc_s: float
    ) -> None:
        self._interval_s = interval_s
        self._sample_s = sample_s
        self._turns = [
            Turn(
                index,
                meter,
                index * sample_s / len(meters),
                meter.expected_s,
                BackOff(meter.keeps_profile, meter.expected_s),
            )
            for index, meter in enumerate(meters)
        ]
        self._sampled = [turn for turn in self._turns if not turn.known.keeps_profile]
        self._kept = [turn for turn in self._turns if turn.known.keeps_profile]
        self.edge_utc_s = int(now_utc_s // interval_s) * interval_s
        """The newest edge whose round has begun."""
        self._round: list[Turn] | None = None
        self._nameless: list[Turn] = []
        """Meters whose last sample waits for the serial number."""
        self._round_began_s = 0.0
        self._round_ends = _LIVE_ENDS
        self._pressed = False
        """Whether edges alone have taken the line's time since the last one."""
        self._earned_at_s = -math.inf
        """When the time that failing meters took from the others has been earned again."""
        self._rested_at_s = -math.inf
        """When nothing was due and a probe would have had its room."""
        self.round_s = 0.0
        """Real time that the last round took."""
        self.missed = 0
        """Samples of the cycle for which the line had no time."""

    @property
    def in_round(self) -> bool:
        """Whether what belongs to an edge is still being asked."""
        return self._round is not None

    @property
    def failing(self) -> list[int]:
        """Meters that did not answer the last time."""
        return [turn.index for turn in self._turns if not turn.in_order]

    @property
    def cycle_ratio(self) -> float | None:
        """`cycle_s` over what the meters' plans expect; None until every one was measured."""
        turns = self._in_order()
        if not turns or not all(turn.measured for turn in turns):
            return None
        return self.cycle_s / sum(turn.expected_s for turn in turns)

    @property
    def cycle_s(self) -> float:
        """Bus time in which every sampled meter that answers is read once, as measured; s."""
        return sum(turn.read_s for turn in self._in_order())

    def cycle_share(self, now: Now) -> float:
        """Share of the sampling cycle that `cycle_s` takes; above 1 the cycle cannot be kept."""
        return self.cycle_s / self._real_cycle_s(now)

    def next(
        self,
        now: Now,
        newest_missing: Callable[[int], int | None],
        chore_due: Callable[[int], bool] = lambda index: False,
    ) -> Ask | Finish | Rest:
        """The most urgent thing to do.

        `newest_missing` tells the newest end of a profile's gap, `chore_due` whether
        its meter has a chore to do (`agent/chores.py`).
        """
        self._look_at_clock(now)
        edge = self._newest_edge(now)
        if self._round is None and edge > self.edge_utc_s:
            # Edges follow each other without pause: a failing meter must get its share here.
            if self._pressed and (probe := self._earned_probe(now)):
                return probe
            self._begin_round(edge, now)
        if self._round is not None:
            return self._next_of_round(self._round, now)
        if ask := self._before_edge(now) or self._name(now):
            return ask
        self._pressed = self._pressed and self._room_s(now) < self._enough_s(now)
        return (
            (self._earned_probe(now) if self._restless else None)
            or self._of_cycle(now)
            or self._earned_probe(now)
            or self._recovery(now, newest_missing)
            or self._chore(now, newest_missing, chore_due)
            or self._free_probe(now)
            or self._rest(now)
        )

    # --- what came of it

    def answered(
        self, ask: Ask, began: Now, ended: Now, ends: int = 0, *, nameless: bool = False
    ) -> None:
        """The meter answered; `ends` intervals of its profile came, if that was asked.

        What a `nameless` one has told waits until it is asked for its name.
        """
        turn = self._turns[ask.index]
        turn.answered(ask, ended.real_s - began.real_s, ends)
        if turn in self._nameless:
            self._nameless.remove(turn)
        if nameless:
            self._nameless.append(turn)
        if ask.why != "name":
            turn.asked(ask, began, self._sample_s)

    def failed(self, ask: Ask, began: Now, ended: Now) -> int:
        """The meter did not answer; how often in a row."""
        turn = self._turns[ask.index]
        turn.asked(ask, began, self._sample_s)
        wanted_s = max(0.0, ended.real_s - max(began.real_s, ask.free_until_s))
        owed_s = turn.back_off.failed(
            began.real_s, ended.real_s, wanted_s, probed=ask.why == "probe"
        )
        if owed_s:
            most_s = ended.real_s + max(owed_s, MOST_OWED_S)
            self._earned_at_s = min(max(self._earned_at_s, ended.real_s) + owed_s, most_s)
        return turn.back_off.failures

    def chore_ended(self, ask: Ask, ended: Now) -> None:
        """The meter did its chore, or failed to: that says nothing about its other reads."""
        self._turns[ask.index].chore_at_s = ended.real_s

    def passed_over(self, ask: Ask) -> None:
        """Nothing of the meter's profile was missing: it may join the order again."""
        self._turns[ask.index].back_off.failures = 0

    def port_lost(self) -> int | None:
        """Every meter is due once the port is back; the edge whose round breaks off, if one does.

        The caller finishes that edge: other lines need not wait for it.
        """
        for turn in self._turns:
            turn.due_utc_s = -math.inf
        self._nameless.clear()
        broken, self._round = self._round, None
        return None if broken is None else self.edge_utc_s

    def edge_without_port(self, now: Now) -> int | None:
        """An edge that has passed while nothing could be asked; the caller finishes it."""
        self._look_at_clock(now)
        edge = self._newest_edge(now)
        if edge <= self.edge_utc_s:
            return None
        self.edge_utc_s = edge
        return edge

    # --- edges

    def _begin_round(self, edge: int, now: Now) -> None:
        # A round that took several intervals left several ends to be read by range; a clock that
        # was set by days left a backlog, which is no business of a round.
        ends = 2 * (edge - self.edge_utc_s) // self._interval_s
        self._round_ends = ends if _LIVE_ENDS < ends <= _SLICE_ENDS[1] else _LIVE_ENDS
        self.edge_utc_s = edge
        self._round_began_s = now.real_s
        self._pressed = True
        early = [turn for turn in self._sampled if turn.asked_utc_s < edge]
        self._round = [*sorted(early, key=oldest), *self._kept]

    def _next_of_round(self, waiting: list[Turn], now: Now) -> Ask | Finish:
        while waiting:
            turn = waiting[0]
            # The samples of all come before the names: these need not be near the edge.
            if turn.known.keeps_profile and (ask := self._before_edge(now) or self._name(now)):
                return ask
            waiting.pop(0)
            if turn.in_order:
                most = self._round_ends if turn.known.keeps_profile else 0
                return Ask(turn.index, "after edge", self.edge_utc_s, turn.until_s(now), most)
        # Not the samples before the next edge: on a line that is too slow no round would end.
        if ask := self._name(now):
            return ask
        self._round = None
        self.round_s = now.real_s - self._round_began_s
        return Finish(self.edge_utc_s)

    def _name(self, now: Now) -> Ask | None:
        """The serial number of the meter whose sample waits for it the longest."""
        while self._nameless:
            turn = self._nameless.pop(0)
            if turn.in_order:
                return Ask(turn.index, "name", self.edge_utc_s, turn.until_s(now))
        return None

    def _before_edge(self, now: Now) -> Ask | None:
        """The next sample before the next edge, once there is just the time for all that miss it.

        The order is that of the round after the edge, so that the two samples
        of every meter lie about equally far apart.
        """
        missing = self._before_edge_missing(now)
        if not missing or self._left_s(now) > lead_s(missing):
            return None
        turn = min(missing, key=oldest)
        edge = self._newest_edge(now) + self._interval_s
        return Ask(turn.index, "before edge", edge, turn.until_s(now))

    # --- between the edges

    def _of_cycle(self, now: Now) -> Ask | None:
        due = [turn for turn in self._in_order() if turn.due_in_s(now) <= 0]
        if not due:
            return None
        turn = min(due, key=oldest)
        if turn.read_s > self._room_s(now):
            return None
        # A meter's first sample, and the first after a lost port, were not due at any instant.
        late_s = (now.utc_s - turn.due_utc_s) * now.real_per_utc
        if 0 < late_s < math.inf:
            self.missed += int(late_s / self._real_cycle_s(now))
        return Ask(turn.index, "cycle", 0, turn.until_s(now))

    def _recovery(self, now: Now, newest_missing: Callable[[int], int | None]) -> Ask | None:
        """A slice of the meter whose missing intervals are the newest."""
        best: tuple[int, Turn] | None = None
        for turn in self._kept:
            end = newest_missing(turn.index) if turn.in_order else None
            if end is not None and (best is None or end > best[0]):
                best = end, turn
        if best is None:
            return None
        turn = best[1]
        most = int(min(self._room_s(now), _SLICE_S) / max(turn.end_s, 1e-4))
        if most < _SLICE_ENDS[0]:
            return None
        return Ask(turn.index, "recover", most=min(most, _SLICE_ENDS[1]))

    def _chore(
        self,
        now: Now,
        newest_missing: Callable[[int], int | None],
        chore_due: Callable[[int], bool],
    ) -> Ask | None:
        """A chore of the meter whose last one is the longest ago: no gap on the line, no edge near.

        A chore cannot be broken off, so the last part of an interval belongs to the edge.
        """
        kept = [turn for turn in self._kept if turn.in_order]
        due = [turn for turn in kept if chore_due(turn.index)]
        if not due or self._free_s(now) < self._enough_s(now):
            return None
        if any(newest_missing(turn.index) is not None for turn in kept):
            return None
        turn = min(due, key=lambda turn: (turn.chore_at_s, turn.index))
        return Ask(turn.index, "chore")

    # --- failing meters

    def _earned_probe(self, now: Now) -> Ask | None:
        """A failing meter that is worth the time of the others: at once, or when it is earned."""
        due = [
            turn
            for turn in self._turns
            if turn.back_off.due(now.real_s)
            and (turn.back_off.at_once or now.real_s >= self._earned_at_s)
        ]
        if not due:
            return None
        turn = min(due, key=longest_waiting)
        needed_s = min(turn.back_off.cost_s, self._enough_s(now))
        if not self._pressed and needed_s > self._room_s(now):
            return None
        wanted = any(kept.in_order for kept in self._kept)
        return self._probe(turn, now, 0.0 if wanted else max(0.0, self._free_s(now)))

    def _free_probe(self, now: Now) -> Ask | None:
        """A failing meter whose probe fits into the time that nobody else wants."""
        free_s = self._free_s(now)
        due = [turn for turn in self._turns if turn.back_off.due(now.real_s)]
        fitting = [turn for turn in due if turn.back_off.cost_s <= free_s]
        if not fitting:
            return None
        return self._probe(min(fitting, key=longest_waiting), now, free_s)

    def _probe(self, turn: Turn, now: Now, free_s: float) -> Ask:
        return Ask(
            turn.index,
            "probe",
            until_s=now.real_s + turn.known.longest_s,
            most=_LIVE_ENDS,
            free_until_s=now.real_s + free_s,
        )

    def _free_s(self, now: Now) -> float:
        """Real time that no meter in order wants, but for what a profile misses."""
        if not any(turn.in_order for turn in self._turns):
            return math.inf if self._room_s(now) >= self._enough_s(now) else self._room_s(now)
        return min([self._room_s(now), *(turn.due_in_s(now) for turn in self._in_order())])

    @property
    def _restless(self) -> bool:
        """Whether a failing meter has waited for its time since the line rested last."""
        waits = (t.back_off.probe_at_s for t in self._turns if not t.in_order)
        return max(min(waits, default=math.inf), self._earned_at_s) > self._rested_at_s

    # --- small things

    def _in_order(self) -> list[Turn]:
        """The sampled meters that answer."""
        return [turn for turn in self._sampled if turn.in_order]

    def _before_edge_missing(self, now: Now) -> list[Turn]:
        edge = self._newest_edge(now) + self._interval_s
        return [turn for turn in self._in_order() if turn.before_edge_utc_s < edge]

    def _look_at_clock(self, now: Now) -> None:
        edge = self._newest_edge(now)
        if edge < self.edge_utc_s - _SET_BACK_S:
            self.edge_utc_s = edge
            for turn in self._turns:
                turn.before_edge_utc_s = 0

    def _newest_edge(self, now: Now) -> int:
        return int(now.utc_s // self._interval_s) * self._interval_s

    def _left_s(self, now: Now) -> float:
        """Real time until the next edge."""
        left_utc_s = self._newest_edge(now) + self._interval_s - now.utc_s
        return left_utc_s * now.real_per_utc

    def _room_s(self, now: Now) -> float:
        """Real time until the samples before the next edge begin."""
        return self._left_s(now) - lead_s(self._before_edge_missing(now))

    def _enough_s(self, now: Now) -> float:
        return _ROOM_SHARE * self._interval_s * now.real_per_utc

    def _real_cycle_s(self, now: Now) -> float:
        return max(SPACING_S, self._sample_s * now.real_per_utc)

    def _rest(self, now: Now) -> Rest:
        room_s = self._room_s(now)
        waits = [STEP_S, room_s if room_s > 0 else self._left_s(now)]
        waits += [wait_s for turn in self._in_order() if (wait_s := turn.due_in_s(now)) > 0]
        rest_s = max(_LEAST_REST_S, min(waits))
        if room_s >= self._enough_s(now):
            # Right before an edge it only waits for the edge.
            self._rested_at_s = now.real_s
        self._earned_at_s -= RESTING_EARNS * rest_s
        return Rest(now.real_s + rest_s)
