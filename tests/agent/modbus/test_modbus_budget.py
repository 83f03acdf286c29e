"""A line's budget: the line formula, whether it fits, and advice that helps."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import LineConfig, MeterConfig
from agent.modbus.budget import FULL, LineBudget, ReadBudget, line_budget
from agent.modbus.budget_table import problem, summary, table
from agent.modbus.planner import LineCost, bus_time_s, plan
from agent.modbus.profile import Profile, models, shipped

INTERVAL_S = 900
PROFILES = {model: shipped(model) for model in models()}
SDM630, EM340 = "eastron_sdm630", "carlo_gavazzi_em340"


def line(baud: int = 9600) -> LineConfig:
    return LineConfig("a", "/dev/ttyS1", "modbus", baud, "E", 1)


def meters(*names: str) -> list[MeterConfig]:
    return [MeterConfig(f"m{n}", "a", name, unit=n) for n, name in enumerate(names, 1)]


def budget(names: list[str], sample_s: int, baud: int = 9600) -> LineBudget:
    return line_budget(line(baud), meters(*names), PROFILES, sample_s, INTERVAL_S)


def test_a_meters_share_is_its_samples_and_its_serial_number_by_the_line_formula() -> None:
    profile = PROFILES[EM340]
    cost = LineCost(11 / 9600, profile.turnaround_s, profile.gap_s)
    reads = plan({r.field for rs in profile.sample.values() for r in rs}, cost, profile.limits)
    (share,) = budget([EM340], 60).shares
    assert share.reads == len(reads)
    assert share.read_s == pytest.approx(bus_time_s(reads, cost))
    assert profile.serial is not None
    # Fifteen cycles, before and after the edge, and the serial number once.
    spent_s = 17 * share.read_s + cost.of(profile.serial.read[1])
    assert share.share == pytest.approx(spent_s / INTERVAL_S)


def test_a_line_with_time_needs_no_advice() -> None:
    found = budget([SDM630] * 32, 60)
    assert found.fits
    assert found.advice == ()
    assert "32 meters take" in summary(found, 60)


def test_an_overfull_line_says_which_sample_s_would_do() -> None:
    found = budget([EM340] * 32, 5)
    assert not found.fits
    advised = next(int(text.split()[3].rstrip(":")) for text in found.advice if "sample_s" in text)
    assert budget([EM340] * 32, advised).fits
    assert "sample_s" in problem(found, 5)


def test_a_faster_baud_is_advised_only_where_every_model_can() -> None:
    assert any("19200 Bd" in text for text in budget([EM340] * 32, 10).advice)
    mixed = budget([EM340] * 31 + [_slow_model()], 10)
    fastest = max(PROFILES[_slow_model()].defaults.bauds)
    for text in mixed.advice:
        for baud in re.findall(r"(\d+) Bd", text):
            assert int(baud) <= fastest


def _slow_model() -> str:
    return min(models(), key=lambda model: max(PROFILES[model].defaults.bauds or (10**6,)))


def test_a_makers_deliberate_delay_is_named_with_what_its_removal_saves() -> None:
    found = budget([EM340] * 32, 10)
    (text,) = [text for text in found.advice if "0x2005" in text]
    after = int(re.findall(r"busy (\d+)%", text)[0])
    delay_s = PROFILES[EM340].settable_delay_s
    shorter = replace(PROFILES[EM340], turnaround_s=PROFILES[EM340].turnaround_s - delay_s)
    changed = line_budget(line(), meters(*[EM340] * 32), {EM340: shorter}, 10, INTERVAL_S)
    assert after == round(changed.total * 100)
    assert not any("0x2005" in text for text in budget([SDM630] * 60, 10).advice)


def test_as_many_meters_are_moved_as_let_the_rest_fit() -> None:
    names = [EM340] * 32
    found = budget(names, 10)
    count = next(int(text.split()[1]) for text in found.advice if text.startswith("move"))
    assert budget(names[count:], 10).fits
    assert not budget(names[count - 1 :], 10).fits


@given(
    st.lists(st.sampled_from(models()), min_size=1, max_size=40),
    st.sampled_from([1, 10, 60, 900]),
    st.sampled_from([2400, 9600, 115200]),
)
def test_the_total_is_the_sum_of_the_shares_and_falls_with_speed_and_time(
    names: list[str], sample_s: int, baud: int
) -> None:
    found = budget(names, sample_s, baud)
    assert found.total == pytest.approx(sum(share.share for share in found.shares))
    assert found.fits == (found.total <= FULL)
    assert bool(found.advice) <= (not found.fits)
    assert budget(names, sample_s, 2 * baud).total < found.total
    assert budget(names, 2 * sample_s, baud).total < found.total


def test_the_table_has_a_row_per_model_with_the_biggest_share_first() -> None:
    rows = table(budget([SDM630] * 3 + ["eastron_sdm72d"] * 3, 60))
    assert ["3 x eastron_sdm72d" in rows[0], "3 x eastron_sdm630" in rows[1]] == [True, True]
    assert len(rows) == 2


class Planned:
    """A driver's plan for everything that a profile samples."""

    def __init__(self, profile: Profile) -> None:
        self.cost = LineCost(11 / 9600, profile.turnaround_s, profile.gap_s)
        fields = {r.field for rs in profile.sample.values() for r in rs}
        self.reads = plan(fields, self.cost, profile.limits)


@pytest.mark.parametrize("model", models())
def test_a_read_may_take_as_long_as_its_answers_and_no_minute(model: str) -> None:
    profile = PROFILES[model]
    known = ReadBudget(Planned(profile), profile)
    assert known.expected_s + profile.response_timeout_s < known.longest_s < 10


def test_a_read_that_was_cut_in_pieces_has_more_time() -> None:
    profile = PROFILES[SDM630]
    planned = Planned(profile)
    known = ReadBudget(planned, profile)
    before_s = known.longest_s
    planned.reads = planned.reads * 4
    assert known.longest_s > before_s + 3 * profile.response_timeout_s
