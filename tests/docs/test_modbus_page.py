"""docs/modbus.md says what the agent does: its example works, its tables are whole."""

import re
from pathlib import Path

import pytest

from agent.modbus.profile import models, parse, shipped

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/modbus.md").read_text()
READERS = ("agent/modbus/profile.py", "agent/modbus/profile_file.py")
ASKED = re.compile(
    r'table\.(?:get|within|fraction|one_of|optional|whole_numbers|texts|table|inner)\(\s*"(\w+)"'
    r'|inner\.(?:get|within|optional|whole_numbers)\(\s*"(\w+)"'
)


def test_the_worked_example_is_a_profile_that_yields_its_reading() -> None:
    found = re.search(r"```toml profile\n(.*?)```", PAGE, re.S)
    assert found
    profile = parse(found.group(1), "docs/modbus.md")
    (example,) = profile.examples
    assert profile.reading(example.words).values == example.expect
    assert profile.serial
    assert profile.identify


@pytest.mark.parametrize("reader", READERS)
def test_every_key_that_a_profile_may_have_is_in_a_table(reader: str) -> None:
    keys = {key for found in ASKED.findall((ROOT / reader).read_text()) for key in found if key}
    assert len(keys) > 10
    tables = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    assert {key for key in keys if f"`{key}`" not in tables} == set()


def test_every_shipped_model_is_in_the_list() -> None:
    listed = re.findall(r"^\| `(\w+)` \| [^|]*\| [^|]*\| [^|]*\| [^|]*\|$", PAGE, re.M)
    assert tuple(listed) == models()


def test_the_list_says_where_a_serial_number_and_a_rule_are_unknown() -> None:
    for model in models():
        (row,) = re.findall(rf"^\| `{model}` \|(.*)\|$", PAGE, re.M)
        _, _, serial, rule = row.split("|")
        profile = parse((ROOT / f"agent/modbus/profiles/{model}.toml").read_text(), f"{model}.toml")
        assert ("unknown" in serial) == (profile.serial is None), model
        assert ("unknown" in rule) == (profile.identify == ()), model


def test_the_page_names_the_models_with_captured_examples() -> None:
    captured = [
        model
        for model in models()
        if any(example.origin == "captured" for example in shipped(model).examples)
    ]
    (sentence,) = re.findall(r"captured ones exist for\s(.*?), from public logs", PAGE, re.S)
    assert re.findall(r"`(\w+)`", sentence) == captured
