"""Whether a line has the time for its meters: the line formula over what the schedule asks.

In every interval a meter is sampled once per cycle and twice more around the
edge, and its serial number is read once. The figures are the profiles'; what a
meter really takes is learned while the agent runs (`status`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from agent.config import LineConfig, MeterConfig
from agent.modbus.planner import LineCost, Read, bus_time_s, plan
from agent.modbus.profile import Profile

FULL: Final = 0.95
"""A line that is busier has no time for repeats and failing meters."""
_AROUND_EDGE: Final = 2
_ROUND_S: Final = (
    *(1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 45, 60),
    *(75, 90, 120, 150, 180, 240, 300, 450, 600, 900),
)
_BAUDS: Final = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)


@dataclass(frozen=True, slots=True)
class MeterShare:
    """What one meter takes of its line."""

    meter: str
    model: str
    reads: int
    """Requests of one sample."""
    read_s: float
    """Bus time of one sample, with the meter's own pauses in it."""
    share: float
    """Of the line's time, 0..1."""


@dataclass(frozen=True, slots=True)
class LineBudget:
    """One line's time, and what to change if it is not enough."""

    line: str
    shares: tuple[MeterShare, ...]
    total: float
    """Share of the line's time that its meters take together; above 1 it cannot be done."""
    fits: bool
    advice: tuple[str, ...]

    @property
    def cycle_s(self) -> float:
        """Bus time in which every meter is sampled once."""
        return sum(share.read_s for share in self.shares)


@dataclass(frozen=True, slots=True)
class _Load:
    """What one meter asks of a line of given speed."""

    meter: MeterConfig
    profile: Profile
    reads: int
    read_s: float
    serial_s: float

    def share(self, sample_s: float, interval_s: int) -> float:
        samples = interval_s / sample_s + _AROUND_EDGE
        return (samples * self.read_s + self.serial_s) / interval_s


def line_budget(
    line: LineConfig,
    meters: Sequence[MeterConfig],
    profiles: Mapping[str, Profile],
    sample_s: int,
    interval_s: int,
) -> LineBudget:
    """The budget of a Modbus line; `profiles` by model, as the meters name them."""
    loads = [_load(line, meter, profiles[meter.model]) for meter in meters]
    total = _total(loads, sample_s, interval_s)
    fits = total <= FULL
    return LineBudget(
        line=line.name,
        shares=tuple(
            MeterShare(
                load.meter.id,
                load.meter.model,
                load.reads,
                load.read_s,
                load.share(sample_s, interval_s),
            )
            for load in loads
        ),
        total=total,
        fits=fits,
        advice=() if fits else tuple(_advice(line, loads, sample_s, interval_s)),
    )


def _load(line: LineConfig, meter: MeterConfig, profile: Profile) -> _Load:
    bits = 1 + 8 + (line.parity != "N") + line.stopbits
    cost = LineCost(bits / line.baud, profile.turnaround_s, profile.gap_s)
    reads = plan({r.field for rs in profile.sample.values() for r in rs}, cost, profile.limits)
    serial_s = 0.0
    if profile.serial is not None:
        serial_s = cost.of(profile.serial.read[1]) + cost.between_s
    return _Load(meter, profile, len(reads), bus_time_s(reads, cost), serial_s)


def _total(loads: Sequence[_Load], sample_s: float, interval_s: int) -> float:
    return sum(load.share(sample_s, interval_s) for load in loads)


# --- what to change


def _advice(line: LineConfig, loads: Sequence[_Load], sample_s: int, interval_s: int) -> list[str]:
    found = [
        _slower(loads, interval_s),
        _faster_line(line, loads, sample_s, interval_s),
        *_shorter_delays(line, loads, sample_s, interval_s),
        _elsewhere(loads, sample_s, interval_s),
    ]
    return [advice for advice in found if advice]


def _slower(loads: Sequence[_Load], interval_s: int) -> str:
    for sample_s in _ROUND_S:
        total = _total(loads, sample_s, interval_s)
        if total <= FULL:
            return f"set sample_s = {sample_s}: the line is then busy {total:.0%} of the time"
    return ""


def _faster_line(line: LineConfig, loads: Sequence[_Load], sample_s: int, interval_s: int) -> str:
    """The slowest speed that all meters can be set to and that suffices; else the fastest."""
    common = set(_BAUDS).intersection(*(load.profile.defaults.bauds for load in loads))
    best = ""
    for baud in sorted(baud for baud in common if baud > line.baud):
        faster = [_load(replace(line, baud=baud), load.meter, load.profile) for load in loads]
        total = _total(faster, sample_s, interval_s)
        best = (
            f"set all meters and the line to {baud} Bd, which every model here can: "
            f"the line is then busy {total:.0%} of the time"
        )
        if total <= FULL:
            break
    return best


def _shorter_delays(
    line: LineConfig, loads: Sequence[_Load], sample_s: int, interval_s: int
) -> list[str]:
    found = []
    counts = Counter(load.meter.model for load in loads if load.profile.settable_delay_s)
    for model, count in counts.items():
        profile = next(load.profile for load in loads if load.meter.model == model)
        shorter = replace(profile, turnaround_s=profile.turnaround_s - profile.settable_delay_s)
        changed = [
            _load(line, load.meter, shorter) if load.meter.model == model else load
            for load in loads
        ]
        total = _total(changed, sample_s, interval_s)
        found.append(
            f"{count} {model}: {profile.settable_delay_how}; "
            f"the line is then busy {total:.0%} of the time"
        )
    return found


def _elsewhere(loads: Sequence[_Load], sample_s: int, interval_s: int) -> str:
    """How many of the slowest meters have to leave."""
    shares = sorted((load.share(sample_s, interval_s) for load in loads), reverse=True)
    left = sum(shares)
    for count, share in enumerate(shares, 1):
        left -= share
        if left <= FULL:
            meters = "meter" if count == 1 else "meters"
            if count == len(shares):
                return ""
            return f"move {count} {meters} to another line: this one is then busy {left:.0%}"
    return ""


# --- what a read takes while the agent runs


class Planned(Protocol):
    """A driver as far as its plan goes."""

    @property
    def reads(self) -> tuple[Read, ...]:
        """The requests of one sample."""
        ...

    @property
    def cost(self) -> LineCost:
        """What they are planned for."""
        ...


class ReadBudget:
    """What reads of one meter cost by its driver's present plan, for the line's schedule."""

    keeps_profile: Final = False
    _HOLE_S: Final = 0.05
    _OWED_S: Final = 1.0
    """For the answer that is still owed from before, and for a busy meter's pause."""

    def __init__(self, driver: Planned, profile: Profile, *, network_s: float = 0.0) -> None:
        """`network_s` is what a gateway may add to each answer."""
        self._network_s = network_s
        self._driver = driver
        self._profile = profile

    @property
    def expected_s(self) -> float:
        """What the line formula says for one sample, with the turnaround that was learned."""
        return bus_time_s(self._driver.reads, self._driver.cost)

    @property
    def longest_s(self) -> float:
        """One sample and the serial number, every answer at its last moment."""
        counts = [read.count for read in self._driver.reads]
        if self._profile.serial is not None:
            counts.append(self._profile.serial.read[1])
        return self._OWED_S + sum(self._attempt_s(count) for count in counts)

    def _attempt_s(self, registers: int) -> float:
        cost = self._driver.cost
        characters = 8 + 1.5 * (5 + 2 * registers)
        waits_s = max(cost.gap_s, cost.t35_s) + self._profile.response_timeout_s + self._HOLE_S
        return characters * cost.char_s + waits_s + self._network_s
