"""A line in simulated time: meters that take a while to answer, or do not answer at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from agent.poll.schedule import Ask, Finish, MeterOnLine, Now, Rest, Schedule

T0 = 1_767_225_600
INTERVAL_S = 900


def steady(real_s: float) -> bool:
    return False


def forever(real_s: float) -> bool:
    return True


@dataclass
class Met:
    """One meter: what a read takes, what a read in vain takes, and when it is away."""

    read_s: float = 0.25
    vain_s: float = 0.5
    away: Callable[[float], bool] = steady
    keeps_profile: bool = False
    missing: int | None = None
    tells: bool = False
    """Whether it waits for its serial number after an edge."""
    chore_s: float | None = None
    """What its chore takes, which is always due; None if it has none."""


@dataclass(frozen=True)
class Asked:
    """One read, as it was."""

    ask: Ask
    began_s: float
    ended_s: float
    began_utc_s: float
    answered: bool


@dataclass
class SimulatedLine:
    """Does what the schedule says; real time begins at 0, the clock at `utc_s`."""

    meters: list[Met]
    sample_s: int = 60
    speed: float = 1.0
    utc_s: float = T0 + 450.0
    interval_s: int = INTERVAL_S
    real_s: float = 0.0
    log: list[Asked] = field(default_factory=list)
    finished: list[tuple[float, int]] = field(default_factory=list)
    rested_s: float = 0.0

    def __post_init__(self) -> None:
        self.schedule = Schedule(
            [MeterOnLine(meter.keeps_profile, meter.read_s) for meter in self.meters],
            interval_s=self.interval_s,
            sample_s=self.sample_s,
            now_utc_s=self.utc_s,
        )

    @property
    def now(self) -> Now:
        return Now(self.real_s, self.utc_s, 1 / self.speed)

    def run(self, real_s: float) -> None:
        """Go on for so long."""
        until_s = self.real_s + real_s
        while self.real_s < until_s:
            self.step()

    def step(self) -> None:
        step = self.schedule.next(self.now, self._missing, self._has_chore)
        if isinstance(step, Rest):
            assert step.until_s > self.real_s
            self.rested_s += step.until_s - self.real_s
            self._pass(step.until_s - self.real_s)
        elif isinstance(step, Finish):
            self.finished.append((self.real_s, step.edge_utc_s))
        else:
            self._read(step)

    def _missing(self, index: int) -> int | None:
        return self.meters[index].missing

    def _has_chore(self, index: int) -> bool:
        return self.meters[index].chore_s is not None

    def of(self, index: int) -> list[Asked]:
        return [asked for asked in self.log if asked.ask.index == index]

    def spent_s(self, asked: list[Asked]) -> float:
        return sum(one.ended_s - one.began_s for one in asked)

    def _read(self, ask: Ask) -> None:
        meter = self.meters[ask.index]
        began = self.now
        if ask.why == "chore":
            assert meter.chore_s is not None
            self._pass(meter.chore_s)
            self.schedule.chore_ended(ask, self.now)
            self.log.append(Asked(ask, began.real_s, self.real_s, began.utc_s, answered=True))
            return
        away = meter.away(self.real_s)
        # Two tries in order, one of a probe.
        tries = 1 if ask.why == "probe" else 2
        self._pass(meter.vain_s * tries if away else meter.read_s)
        if away:
            self.schedule.failed(ask, began, self.now)
        else:
            nameless = meter.tells and ask.why == "after edge"
            self.schedule.answered(ask, began, self.now, nameless=nameless)
        self.log.append(Asked(ask, began.real_s, self.real_s, began.utc_s, not away))

    def _pass(self, real_s: float) -> None:
        self.real_s += real_s
        self.utc_s += real_s * self.speed
