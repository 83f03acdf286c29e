"""The soak's faults follow from its seed, and unusable options are refused."""

from __future__ import annotations

from itertools import islice

import pytest

from hil.cli import main
from hil.soak import draw_faults

DEVICES = ("t01", "t02")


def test_the_same_seed_brings_the_same_faults_and_another_seed_others() -> None:
    first = list(islice(draw_faults(7, DEVICES, 240.0), 50))
    assert first == list(islice(draw_faults(7, DEVICES, 240.0), 50))
    assert first != list(islice(draw_faults(8, DEVICES, 240.0), 50))


def test_every_part_of_the_chain_gets_its_faults_and_the_clock_stays_below_its_speed() -> None:
    faults = list(islice(draw_faults(1, DEVICES, 240.0), 300))
    happened = {(fault.kind, fault.part) for fault in faults}
    assert happened == {
        ("kill", "agent-t01"),
        ("kill", "agent-t02"),
        ("kill", "collect"),
        ("kill", "load"),
        ("kill", "broker"),
        ("restart", "broker"),
        ("speed", ""),
    }
    assert all(0 < fault.speed <= 240.0 for fault in faults)


@pytest.mark.parametrize("options", [["--minutes", "0"], ["--speed", "0.5"], ["--speed", "601"]])
def test_a_soak_that_cannot_be_run_says_what_was_expected(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["soak", *options]) == 2
    assert "expected more than 0 minutes and a speed from 1 to 600" in capsys.readouterr().err
