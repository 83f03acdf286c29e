"""docs/threats.md: each test that it names is there, each threat has one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THREATS, STANDARDS = (ROOT / "docs" / "threats.md").read_text().split("\n## What standards ask\n")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", THREATS + STANDARDS)))


def rows(part: str) -> list[list[str]]:
    table = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in cells] for cells in table[1:]]


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_each_named_test_is_there(file: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.M)


def test_each_threat_has_a_test() -> None:
    threats = rows(THREATS)
    assert len(threats) >= 8
    for threat, *_, test in threats:
        assert "::" in test, threat


def test_each_requirement_has_a_test_or_says_not_yet() -> None:
    requirements = rows(STANDARDS)
    assert len(requirements) >= 20
    for requirement, *_, test in requirements:
        assert "::" in test or test.startswith("not yet"), requirement


def test_each_test_of_the_hostile_broker_is_named() -> None:
    file = "tests/chain/test_hostile_broker.py"
    written = re.findall(r"^def (test_\w+)\(", (ROOT / file).read_text(), re.M)
    assert {name for named_in, name in NAMED if named_in == file} == set(written)
