"""What a meter shows of itself remakes its plan: lengths, holes, missing values, its turnaround."""

import math
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.driver import MeterRefused, MeterSilent, Sample
from agent.modbus.driver import ModbusDriver
from agent.modbus.meter_plan import MeterPlan
from agent.modbus.planner import Field, Limits, LineCost, Read, t35
from agent.modbus.profile import shipped
from agent.modbus.transaction import Answered, ReadRequest, Reason, Refused
from hil.meters.modbus import ModbusMeter
from hil.meters.steady import Steady
from wire.clock import SystemClock

CHAR_S = 11 / 9600
MODEL = "eastron_sdm630"
IMPORT = range(72, 74)
EXPORT = range(74, 76)


@dataclass
class Meter:
    """A meter without a line: what it takes, and every request that it got."""

    most: int = 125
    """Registers that it sends at once."""
    missing: frozenset[int] = frozenset()
    """Addresses that it refuses."""
    too_long: int | None = 3
    """Its exception for a long read; None: it is silent."""
    turnaround_s: float | None = None
    dead: bool = False
    serial: str = "21000035"
    char_s: float = CHAR_S
    span_utc_s: tuple[float, float] = (0.0, 0.0)
    rejected: Counter[Reason] = field(default_factory=Counter)
    asked: list[tuple[ReadRequest, int]] = field(default_factory=list)
    refusals: int = 0

    def ask(
        self, request: ReadRequest, attempts: int, deadline_s: float = math.inf
    ) -> Answered | Refused:
        self.asked.append((request, attempts))
        asked = range(request.address, request.address + request.count)
        if self.dead or (request.count > self.most and self.too_long is None):
            self.refusals += 1
            raise MeterSilent("got nothing")
        if request.count > self.most:
            self.refusals += 1
            assert self.too_long is not None
            return Refused(self.too_long)
        if self.missing & set(asked):
            self.refusals += 1
            return Refused(2)
        meter = ModbusMeter(MODEL, Steady(self.serial))
        shown = meter.read(request.function, request.address, request.count, 0.0)
        assert isinstance(shown, bytes)
        return Answered(shown)


def driver(meter: Meter) -> ModbusDriver:
    return ModbusDriver(meter, 1, shipped(MODEL), SystemClock())


def settled(meter: Meter) -> tuple[Sample, ModbusDriver]:
    """The first sample that costs no refusal and no silence."""
    there = driver(meter)
    for _ in range(14):
        before = meter.refusals
        try:
            sample = there.sample()
        except MeterSilent:
            continue
        if meter.refusals == before:
            return sample, there
    raise AssertionError(f"still refused after 14 samples: {meter.asked}")


@given(
    st.integers(1, 40).map(lambda pairs: 2 * pairs),
    st.sets(st.sampled_from([0, 2, 6, 12, 20, 52, 54, 60, 70, 74, 76, 100])),
    st.sampled_from([2, 3, None]),
)
def test_whatever_a_meter_takes_all_that_it_has_is_read_after_a_few_samples(
    most: int, missing: set[int], too_long: int | None
) -> None:
    meter = Meter(most, frozenset(missing), too_long)
    sample, there = settled(meter)
    assert sample.import_wh == 12_345_678
    assert sample.export_wh == (None if 74 in missing else 45_678)
    assert sample.import_varh == (None if 76 in missing else 234_567)
    assert (sample.voltage_dv is None) == ({0, 2, 4} <= missing)
    wanted = {r.field for rs in shipped(MODEL).sample.values() for r in rs}
    have = [f for f in wanted if not missing & set(range(f.address, f.end))]
    assert Counter(f for read in there.reads for f in read.fields) == Counter(have)


def test_a_read_that_is_too_long_is_asked_once_and_then_in_halves_of_it() -> None:
    meter = Meter(most=40)
    there = driver(meter)
    assert there.sample().import_wh == 12_345_678
    assert [r.count for r, _ in meter.asked].count(78) == 1
    meter.asked.clear()
    assert there.sample().import_wh == 12_345_678
    assert max(request.count for request, _ in meter.asked) <= 40
    assert len(meter.asked) == len(there.reads)


def test_a_hole_that_cannot_be_read_is_not_taken_for_a_limit_of_length() -> None:
    plan = MeterPlan(Limits(), LineCost(CHAR_S))
    fields = frozenset(Field(at, 2) for at in (0, 20, 100, 110, 120, 130, 140, 150, 160))
    short, long = sorted(plan.reads(fields), key=lambda read: read.count)
    plan.begin(None)
    plan.answered(long)
    for part in plan.refuse(short):
        plan.answered(part)
    plan.end()
    assert plan.limits.max_registers == 125
    assert long in plan.reads(fields)
    assert short not in plan.reads(fields)


def test_a_meter_that_is_silent_to_long_reads_is_found_by_asking_for_one_value() -> None:
    meter = Meter(most=40, too_long=None)
    there = driver(meter)
    for _ in range(2):
        with pytest.raises(MeterSilent):
            there.sample()
    assert there.sample().import_wh == 12_345_678
    assert max(read.count for read in there.reads) <= 40


def test_a_dead_meter_is_asked_once_and_sometimes_twice_or_for_a_single_value() -> None:
    meter = Meter(dead=True)
    there = driver(meter)
    for _ in range(9):
        with pytest.raises(MeterSilent):
            there.sample()
    assert [attempts for _, attempts in meter.asked] == [2, 1, 1, 1, 2, 1, 1, 1, 2]
    assert [request.count for request, _ in meter.asked] == [78, 78, 2, 78, 78, 78, 2, 78, 78]


def test_a_meter_that_was_well_is_not_asked_in_shorter_reads_because_it_was_silent() -> None:
    meter = Meter()
    there = driver(meter)
    reads = there.reads
    there.sample()
    meter.dead = True
    for _ in range(5):
        with pytest.raises(MeterSilent):
            there.sample()
    meter.dead = False
    there.sample()
    assert there.reads == reads


def test_a_silence_for_want_of_time_says_nothing_about_the_meter() -> None:
    class Hurried(Meter):
        def ask(
            self, request: ReadRequest, attempts: int, deadline_s: float = math.inf
        ) -> Answered | Refused:
            if request.count > 2:
                self.asked.append((request, attempts))
                raise MeterSilent("the time budget was used up")
            return super().ask(request, attempts, deadline_s)

    meter = Hurried()
    there = driver(meter)
    reads = there.reads
    for _ in range(4):
        with pytest.raises(MeterSilent):
            there.sample(deadline_s=0.0)
    assert there.reads == reads
    assert [(request.count, attempts) for request, attempts in meter.asked] == [(78, 2)] * 4


def test_a_meter_that_refuses_its_import_counter_is_another_model_and_asked_anew() -> None:
    meter = Meter(missing=frozenset(IMPORT))
    there = driver(meter)
    with pytest.raises(MeterRefused, match=r"counter of imported energy; .*another model.*scan"):
        there.sample()
    assert there.refused == ()
    meter.missing = frozenset(EXPORT)
    sample = there.sample()
    assert (sample.import_wh, sample.export_wh) == (12_345_678, None)
    assert there.refused == ("active_energy_export",)


def test_a_meter_without_the_function_is_asked_once_not_for_every_value() -> None:
    class OnlyHolding(Meter):
        def ask(
            self, request: ReadRequest, attempts: int, deadline_s: float = math.inf
        ) -> Answered | Refused:
            self.asked.append((request, attempts))
            return Refused(1)

    meter = OnlyHolding()
    with pytest.raises(MeterRefused, match=r"exception 1 \(illegal function\); this is another"):
        driver(meter).sample()
    assert len(meter.asked) == 1


def test_the_plan_follows_the_turnaround_that_the_meter_shows() -> None:
    fields = frozenset({Field(0, 2), Field(30, 2)})
    plan = MeterPlan(Limits(), LineCost(CHAR_S, 0.05))
    assert len(plan.reads(fields)) == 1
    plan.begin(0.045 + t35(CHAR_S))
    assert plan.cost.turnaround_s == 0.05
    plan.begin(0.005 + t35(CHAR_S))
    assert plan.cost.turnaround_s == pytest.approx(0.005)
    assert len(plan.reads(fields)) == 2
    plan.begin(None)
    assert len(plan.reads(fields)) == 2


def test_what_was_refused_is_remembered_when_the_turnaround_remakes_the_plan() -> None:
    meter = Meter(most=40, missing=frozenset(EXPORT))
    _, there = settled(meter)
    meter.turnaround_s = 0.5
    before = meter.refusals
    assert there.sample().export_wh is None
    assert there.cost.turnaround_s > 0.4
    assert meter.refusals == before


def test_another_serial_number_is_another_meter_and_everything_is_asked_of_it() -> None:
    meter = Meter(most=40, missing=frozenset(EXPORT))
    _, there = settled(meter)
    assert there.sample(identify=True).serial == "21000035"
    assert (there.sample().export_wh, there.refused) == (None, ("active_energy_export",))
    meter.serial, meter.missing, meter.most = "21000036", frozenset(), 80
    assert there.sample(identify=True).serial == "21000036"
    assert there.sample().export_wh == 45_678
    assert there.refused == ()
    assert [read.count for read in there.reads] == [78]


def test_a_refused_value_leaves_the_plan_and_is_no_part_of_a_longer_read() -> None:
    plan = MeterPlan(Limits(), LineCost(CHAR_S))
    fields = frozenset(Field(at, 2) for at in (0, 2, 4))
    (whole,) = plan.reads(fields)
    plan.begin(None)
    left, right = plan.refuse(whole)
    plan.answered(left)
    middle, last = plan.refuse(right)
    assert plan.refuse(middle) == ()
    plan.answered(last)
    plan.end()
    assert plan.refused == {Field(2, 2)}
    assert {(r.address, r.count) for r in plan.reads(fields)} == {(0, 2), (4, 2)}
    assert plan.is_new(Read(0, 3, ()))
