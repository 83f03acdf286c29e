"""The configured lines as threads, and what status and metrics tell of them.

Of each line: how busy it is, whether its cycle can be kept, how its reads
compare with the line formula. Of each Modbus meter: the turnaround that was
learned and the frames that were not accepted, by reason.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from agent.chores import Chores, ClockSeen
from agent.config import AgentConfig, LineConfig, MeterConfig
from agent.driver import ProfileDriver, SampledDriver
from agent.drivers import build_driver, open_line
from agent.health import Counters, Faults
from agent.interval.sampled import SampledMeter
from agent.poll.thread import CLOCK_OFF_S, LineThread
from agent.poll.turn import Known
from agent.recovery import ProfileMeter, last_registers
from agent.store.event_table import EventRows
from agent.store.outline import Recalled
from agent.store.rows import EdgeRows, MeterRows
from wire.clock import Clock

if TYPE_CHECKING:
    from agent.modbus.driver import ModbusDriver
    from agent.poll.pushed import PushThread


@dataclass(frozen=True, slots=True)
class Shared:
    """What all lines have in common."""

    clock: Clock
    hand_over: Callable[[EdgeRows | list[MeterRows] | EventRows], None]
    counters: Counters
    faults: Faults
    stop: threading.Event


@dataclass(frozen=True, slots=True)
class Line:
    """One line's thread, and what it says of its Modbus meters."""

    thread: LineThread | PushThread
    meters: MeterStates


class MeterStates:
    """What was last learned of a line's Modbus meters.

    Written by the line's thread, which alone may ask the drivers; read by any.
    """

    def __init__(self, line: str, drivers: Mapping[str, ModbusDriver]) -> None:
        self._line = line
        self._drivers = drivers
        self._shown: dict[str, dict[str, Any]] = {}

    def learned(self, meter: str) -> None:
        """The meter was just asked."""
        driver = self._drivers.get(meter)
        if driver is None:
            return
        turnaround_s = driver.exchange.turnaround_s
        self._shown[meter] = {
            "line": self._line,
            "reads": len(driver.reads),
            "turnaround_ms": None if turnaround_s is None else round(turnaround_s * 1000, 1),
            "rejected": {str(reason): n for reason, n in driver.exchange.rejected.items() if n},
            "refused": list(driver.refused),
        }

    def shown(self) -> dict[str, dict[str, Any]]:
        """By meter id; a meter that was not asked yet is not in it."""
        return dict(self._shown)


def build_lines(
    config: AgentConfig, recalled: Mapping[str, Recalled], shared: Shared
) -> list[Line]:
    """All lines that have meters, not started yet; raises ConfigError."""
    return [
        (_build_pushed if line.is_pushed else _build)(config, line, recalled, shared)
        for line in config.lines
        if config.meters_of(line.name)
    ]


def _build(
    config: AgentConfig, line: LineConfig, recalled: Mapping[str, Recalled], shared: Shared
) -> Line:
    port = open_line(line)
    meters: list[SampledMeter | ProfileMeter] = []
    modbus: dict[str, ModbusDriver] = {}
    chores: dict[str, Chores] = {}
    for meter in config.meters_of(line.name):
        driver = build_driver(config, line, meter, port, shared.clock)
        known = recalled.get(meter.id)
        if driver.keeps_profile:
            keeping = cast("ProfileDriver", driver)
            meters.append(_keeping(config, meter, keeping, known, shared.clock))
            chores[meter.id] = _chores(config, meter, keeping, known, shared.clock)
            continue
        # Every driver without a profile speaks Modbus.
        modbus[meter.id] = cast("ModbusDriver", driver)
        meters.append(_sampled(config, meter, modbus[meter.id], known, shared.clock))
    states = MeterStates(line.name, modbus)
    thread = LineThread(
        line.name,
        meters,
        open_port=port.open,
        close_port=port.close,
        clock=shared.clock,
        interval_s=config.interval_s,
        sample_s=config.sample_s,
        hand_over=shared.hand_over,
        counters=shared.counters,
        faults=shared.faults,
        stop=shared.stop,
        known=_budgets(config, modbus),
        learned=states.learned,
        chores=chores,
    )
    return Line(thread, states)


def _build_pushed(
    config: AgentConfig, line: LineConfig, recalled: Mapping[str, Recalled], shared: Shared
) -> Line:
    from agent.dlms.pushed_meters import PushedMeters
    from agent.drivers_push import build_pushed, push_source
    from agent.poll.pushed import PushedDriver, PushThread

    on_line = config.meters_of(line.name)
    pushed = [build_pushed(config, meter) for meter in on_line]
    meters = []
    for meter in on_line:
        driver = PushedDriver(meter.id)
        known = recalled.get(meter.id)
        meters.append((_sampled(config, meter, driver, known, shared.clock), driver))
    thread = PushThread(
        line.name,
        push_source(line),
        PushedMeters(pushed),
        meters,
        clock=shared.clock,
        interval_s=config.interval_s,
        hand_over=shared.hand_over,
        counters=shared.counters,
        faults=shared.faults,
        stop=shared.stop,
    )
    return Line(thread, MeterStates(line.name, {}))


def _keeping(
    config: AgentConfig,
    meter: MeterConfig,
    driver: ProfileDriver,
    recalled: Recalled | None,
    clock: Clock,
) -> ProfileMeter:
    registers = last_registers(recalled)
    if recalled is not None and registers is not None:
        driver.resume(recalled.serial, *registers)
    return ProfileMeter(
        meter.id,
        driver,
        interval_s=config.interval_s,
        recover_s=config.recover_days * 86_400,
        now_utc_s=clock.now_utc_s(),
        recalled=recalled,
        history_s=max(config.recover_days, config.history_days) * 86_400,
    )


def _chores(
    config: AgentConfig,
    meter: MeterConfig,
    driver: ProfileDriver,
    recalled: Recalled | None,
    clock: Clock,
) -> Chores:
    now_utc_s = clock.now_utc_s()
    return Chores(
        meter.id,
        driver,
        interval_s=config.interval_s,
        now_utc_s=now_utc_s,
        marks=recalled.marks if recalled else {},
        since_utc_s=int(now_utc_s) - max(1, config.recover_days) * 86_400,
    )


def _sampled(
    config: AgentConfig,
    meter: MeterConfig,
    driver: SampledDriver,
    recalled: Recalled | None,
    clock: Clock,
) -> SampledMeter:
    return SampledMeter(
        meter.id,
        driver,
        interval_s=config.interval_s,
        recover_s=config.recover_days * 86_400,
        now_utc_s=clock.now_utc_s(),
        recalled=recalled,
        limits=driver.counter_limits,
        serial=meter.serial,
    )


def _budgets(config: AgentConfig, modbus: Mapping[str, ModbusDriver]) -> dict[str, Known]:
    if not modbus:
        return {}
    from agent.modbus.budget import ReadBudget
    from agent.modbus.profile import find
    from agent.modbus.tcp import NETWORK_S

    folder = config.places.path.parent
    gateways = {line.name for line in config.lines if line.protocol == "modbus-tcp"}
    return {
        meter.id: ReadBudget(
            modbus[meter.id],
            find(meter.model, folder),
            network_s=NETWORK_S if meter.line in gateways else 0.0,
        )
        for meter in config.meters
        if meter.id in modbus
    }


# --- what is told of them


def line_state(thread: LineThread | PushThread) -> dict[str, Any]:
    """One line for `status.json` and the retained state; shares are 0..1.

    `pushed` is there where the meters send by themselves: nothing is asked, so nothing takes time.
    """
    if not isinstance(thread, LineThread):
        return {
            "name": thread.line,
            "open": thread.open,
            "failing": thread.failing,
            **dict.fromkeys(("round_ms", "busy_share", "cycle_ms", "cycle_share"), 0),
            "cycle_ratio": None,
            "missed_samples": 0,
            "pushed": thread.state(),
        }
    ratio = thread.schedule.cycle_ratio
    return {
        "name": thread.line,
        "open": thread.open,
        "failing": thread.failing,
        "round_ms": round(thread.round_s * 1000),
        "busy_share": round(thread.load.busy_share(time.monotonic()), 3),
        "cycle_ms": round(thread.schedule.cycle_s * 1000),
        "cycle_share": round(thread.cycle_share(), 3),
        "cycle_ratio": None if ratio is None else round(ratio, 3),
        "missed_samples": thread.schedule.missed,
    }


def clock_state(lines: list[Line]) -> dict[str, Any]:
    """The meters' clocks for the retained state: how many, how many are off, and the worst."""
    seen = _clocks(lines)
    worst = max(seen, key=lambda name: abs(seen[name].ahead_s), default=None)
    return {
        "read": len(seen),
        "untrusted": sum(clock.untrusted for clock in seen.values()),
        "off": sum(abs(clock.ahead_s) > CLOCK_OFF_S for clock in seen.values()),
        "worst": None if worst is None else {"meter": worst, **_clock(seen[worst])},
    }


def clock_states(lines: list[Line]) -> dict[str, dict[str, Any]]:
    """Every meter's clock for `status.json`; too much for the retained state."""
    return {
        name: {"read_utc_s": int(clock.at_utc_s), "untrusted": clock.untrusted, **_clock(clock)}
        for name, clock in _clocks(lines).items()
    }


def _clock(clock: ClockSeen) -> dict[str, float | None]:
    drift = clock.drift_s_per_day
    return {
        "ahead_s": round(clock.ahead_s, 1),
        "drift_s_per_day": None if drift is None else round(drift, 1),
    }


def _clocks(lines: list[Line]) -> dict[str, ClockSeen]:
    return {name: clock for line in lines for name, clock in line.thread.clocks().items()}


def show_clocks(counters: Counters, lines: list[Line]) -> None:
    """Put every meter's clock on /metrics."""
    seen = _clocks(lines)
    counters.show_each(
        "meter_clock_ahead_seconds",
        {(("meter", name),): clock.ahead_s for name, clock in seen.items()},
    )
    counters.show_each(
        "meter_clock_drift_seconds_per_day",
        {
            (("meter", name),): clock.drift_s_per_day
            for name, clock in seen.items()
            if clock.drift_s_per_day is not None
        },
    )


def meter_states(lines: list[Line]) -> dict[str, dict[str, Any]]:
    """Every Modbus meter for `status.json`; too much for the retained state."""
    return {meter: shown for line in lines for meter, shown in line.meters.shown().items()}


def show_on_metrics(
    counters: Counters, lines: list[dict[str, Any]], meters: Mapping[str, dict[str, Any]]
) -> None:
    """Put what `line_state` and `meter_states` say on /metrics, labelled."""
    for gauge, key in (
        ("line_busy_share", "busy_share"),
        ("line_cycle_share", "cycle_share"),
        ("line_cycle_ratio", "cycle_ratio"),
        ("line_missed_samples_total", "missed_samples"),
    ):
        counters.show_each(
            gauge,
            {(("line", line["name"]),): line[key] for line in lines if line[key] is not None},
        )
    counters.show_each(
        "meter_turnaround_seconds",
        {
            (("meter", name),): meter["turnaround_ms"] / 1000
            for name, meter in meters.items()
            if meter["turnaround_ms"] is not None
        },
    )
    counters.show_each("meter_frames_rejected_total", dict(_rejected(meters)))


def _rejected(
    meters: Mapping[str, dict[str, Any]],
) -> Iterator[tuple[tuple[tuple[str, str], ...], float]]:
    for name, meter in meters.items():
        for reason, count in meter["rejected"].items():
            yield (("meter", name), ("reason", reason)), count
