"""A meter with a recorded profile, and reading from it until nothing is to be asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.driver import MeterSilent, ProfileRow, ReadError, Sample
from agent.recovery import ProfileMeter
from agent.store.outline import Recalled
from agent.store.rows import MeterRows

S = 900
T0 = 1_767_225_600


@dataclass
class Meter:
    """A driver over a recorded profile; `silent` makes it fail."""

    serial: str | None = "A1"
    recorded: dict[int, int] = field(default_factory=dict)
    silent: bool = False
    asked: list[tuple[int, int]] = field(default_factory=list)
    keeps_profile: bool = True
    quantities: frozenset[str] = frozenset({"import_wh", "export_wh", "voltage_dv", "current_ca"})

    def sample(self) -> Sample:
        raise NotImplementedError

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        self.asked.append((first_end_utc_s, last_end_utc_s))
        if self.silent:
            raise MeterSilent("no answer")
        return [
            ProfileRow(end, import_wh=wh, export_wh=0, voltage_dv=2300, current_ca=100)
            for end, wh in sorted(self.recorded.items())
            if first_end_utc_s <= end <= last_end_utc_s
        ]


def meter_of(
    driver: Meter,
    now: float,
    *,
    recalled: Recalled | None = None,
    recover_s: int = 96 * S,
    history_s: int = 0,
) -> ProfileMeter:
    return ProfileMeter(
        "m1",
        driver,  # type: ignore[arg-type]
        interval_s=S,
        recover_s=recover_s,
        now_utc_s=now,
        recalled=recalled,
        history_s=history_s,
    )


def flags_by_end(groups: list[MeterRows]) -> dict[int, int]:
    return {end: values[-1] for group in groups for end, values in group.rows}


@dataclass
class Rows(Meter):
    """A driver that answers with just these rows."""

    rows: list[ProfileRow] = field(default_factory=list)

    def __init__(self, rows: list[ProfileRow]) -> None:
        super().__init__()
        self.rows = rows

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        return self.rows


class Stumbling(Meter):
    """Cannot answer for some ends: says nothing, or nonsense, when one of them is asked for."""

    damaged: frozenset[int] = frozenset()
    error: type[ReadError] = ReadError

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        rows = super().profile(first_end_utc_s, last_end_utc_s)
        if any(first_end_utc_s <= end <= last_end_utc_s for end in self.damaged):
            raise self.error("damaged")
        return rows


def read_all(meter: ProfileMeter, now: float, most: int = 40) -> dict[int, int]:
    """Reads until nothing is to be asked; flags by end."""
    got: dict[int, int] = {}
    for _ in range(1000):
        gap = meter.gap(now, most)
        if gap is None:
            return got
        rows = flags_by_end(meter.read(gap, now))
        assert not rows.keys() & got.keys(), "an interval is said twice"
        got |= rows
    raise AssertionError("it asks for ever")


def read_on(meter: ProfileMeter, now: float, most: int, tries: int = 2000) -> dict[int, int]:
    """As `read_all`, going on after failures."""
    got: dict[int, int] = {}
    for _ in range(tries):
        gap = meter.gap(now, most)
        if gap is None:
            return got
        try:
            got |= flags_by_end(meter.read(gap, now))
        except ReadError:
            continue
    raise AssertionError("it asks for ever")
