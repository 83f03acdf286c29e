"""The agent's profiles against the bench's own maps, which were typed from the sources again."""

from fractions import Fraction

import pytest

from agent.modbus.profile import models, shipped
from hil.meters.modbus import model_map

PER_UNIT = {"kWh": 1000, "kvarh": 1000}


@pytest.mark.parametrize("model", models())
def test_every_register_of_a_profile_lies_where_the_bench_has_it(model: str) -> None:
    profile, bench = shipped(model), model_map(model)
    there = {
        r.address: (r.type, Fraction(str(r.scale)) * PER_UNIT.get(r.unit, 1))
        for r in bench.registers
    }
    assert (profile.phases, profile.word_order) == (bench.phases, bench.word_order)
    assert profile.function in bench.functions
    for register in profile.registers:
        if not register.name.endswith("_t2"):  # the bench has one tariff
            assert (register.type, register.factor) == there[register.address], register.name


@pytest.mark.parametrize("model", models())
def test_a_profile_asks_no_more_at_once_than_the_bench_allows_or_finds_it_out(model: str) -> None:
    profile, bench = shipped(model), model_map(model)
    assert profile.limits.max_registers in (bench.max_registers, 125)
    assert (profile.limits.align == 2) == bench.whole_values
