"""docs/dlms.md: its examples can be read, and it names every class that ships."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.dlms.meter_class import FOLDER, find_meter_class
from agent.dlms.push_class import load_push_class, push_classes

TEXT = (Path(__file__).parents[3] / "docs" / "dlms.md").read_text()


def example(kind: str) -> str:
    found = re.findall(rf"```toml {kind}\n(.*?)```", TEXT, re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def test_the_example_of_a_meter_class_is_one(tmp_path):
    (tmp_path / "mine.toml").write_text(example("meter-class"))
    mine = find_meter_class("mine.toml", tmp_path)
    assert mine.ciphering == "general-global"
    assert mine.profile.access == "entry"
    assert "vendor" in mine.logs
    assert len(mine.profile.columns["import_varh"].attributes) == 2


def test_the_example_of_a_push_class_is_one(tmp_path):
    (tmp_path / "mine.toml").write_text(example("push-class"))
    assert set(load_push_class("mine", tmp_path).quantities) == {"import_wh", "power_w"}


@pytest.mark.parametrize("name", [*push_classes(), *(file.stem for file in FOLDER.glob("*.toml"))])
def test_every_class_that_ships_is_in_a_table(name):
    assert f"| `{name}` |" in TEXT
