"""Meter profiles as data files."""

import re
from pathlib import Path

import pytest

from agent.modbus.profile import COUNTERS, ProfileError, load, models, parse, shipped

WHOLE = """
model = "m"
title = "A meter"
phases = 1
function = 4
word_order = "big"
side = "primary"
serial = "unknown"
[sample]
import_wh = ["energy"]
[sources]
manual = "page 3"
[[register]]
name = "energy"
address = 72
type = "uint32"
scale = 0.01
unit = "kWh"
step = "10 Wh"
sources = ["manual"]
"""


@pytest.mark.parametrize("model", models())
def test_each_example_of_a_profile_yields_its_reading(model: str) -> None:
    profile = shipped(model)
    assert profile.model == model
    assert profile.examples
    for example in profile.examples:
        reading = profile.reading(example.words)
        there = {name: value for name, value in reading.values.items() if value is not None}
        assert there == example.expect
        assert reading.flags == example.flags


@pytest.mark.parametrize("model", models())
def test_each_register_names_a_source_and_each_counter_its_step(model: str) -> None:
    profile = shipped(model)
    assert all(register.sources for register in profile.registers)
    for name in COUNTERS:
        assert all(register.step for register in profile.sample.get(name, ()))


def test_a_value_of_ones_is_missing_not_a_number() -> None:
    abb = shipped("abb_b23_b24")
    ones = {23296 + at: b"\xff\xff" for at in range(6)}
    assert abb.reading(ones).values["voltage_dv"] is None
    signed = {23316: b"\x7f\xff", 23317: b"\xff\xff"}
    assert abb.reading(signed).values["power_w"] is None


def test_the_low_word_comes_first_where_the_maker_sends_it_so() -> None:
    gavazzi = shipped("carlo_gavazzi_em340")
    words = {52: b"\x00\x01", 53: b"\x00\x02"}
    assert gavazzi.reading(words).values["import_wh"] == (2 * 65536 + 1) * 100


def test_an_unwired_phase_does_not_halve_the_voltage() -> None:
    eastron = shipped("eastron_sdm630")
    words = dict.fromkeys(range(6), b"\0\0") | {0: b"\x43\x66", 1: b"\x66\x66"}
    assert eastron.reading(words).values["voltage_dv"] == 2304


def test_not_a_number_is_a_missing_value() -> None:
    words = {72: b"\x7f\xc0", 73: b"\0\0"}
    assert shipped("eastron_sdm120").reading(words).values["import_wh"] is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("function = 4", "function = 6", "p.toml: function: expected one of 3, 4, got 6"),
        ('word_order = "big"', "", "word_order: expected one of big, little, got nothing"),
        ("address = 72", "address = 70000", "register 1: address: expected 0..65535, got 70000"),
        ('type = "uint32"', 'type = "bcd"', "register 1: type: expected one of int16"),
        ('["energy"]', '["enrgy"]', "sample.import_wh: expected names of this profile's registers"),
        ("import_wh =", "export_wh =", "sample.import_wh: expected the counter of imported energy"),
        ('sources = ["manual"]', 'sources = ["hearsay"]', "sources: expected keys of the table"),
        ('step = "10 Wh"', "", "register 1: step: expected the counter's smallest step"),
        ("function = 4", "function = 4\ngap_s = 1", "p.toml: gap_s: not a key of a profile"),
        ("function = 4", "function = ", "p.toml: expected TOML, got"),
    ],
)
def test_a_wrong_profile_is_refused_with_key_and_remedy(old: str, new: str, message: str) -> None:
    assert parse(WHOLE, "p.toml").model == "m"
    with pytest.raises(ProfileError, match=re.escape(message)):
        parse(WHOLE.replace(old, new), "p.toml")


def test_a_model_that_is_not_shipped_is_refused_with_the_list() -> None:
    with pytest.raises(ProfileError, match=r"expected one of .*eastron_sdm120"):
        shipped("eastron_sdm121")


def test_a_profile_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(WHOLE)
    assert load(tmp_path / "own.toml").title == "A meter"
    with pytest.raises(ProfileError, match=r"other\.toml: expected a readable profile"):
        load(tmp_path / "other.toml")
