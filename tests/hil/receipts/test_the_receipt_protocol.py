"""Nothing is lost, doubled or stuck under random schedules; a rule left out is seen at once."""

from __future__ import annotations

import json

import pytest

from hil import cli
from hil.receipts.controls import CONTROLS, FULL
from hil.receipts.run import first_wrong, run_receipts, trials
from hil.receipts.schedule import draw

SCHEDULES = 500
PARTS = 5


@pytest.mark.parametrize("part", range(PARTS))
def test_random_schedules_lose_double_and_block_nothing(part: int) -> None:
    size = SCHEDULES // PARTS
    wrong = [o for o in trials(FULL, range(part * size, (part + 1) * size)) if o.wrong]
    assert wrong == []


@pytest.mark.parametrize("name", CONTROLS)
def test_a_rule_left_out_is_caught(name: str) -> None:
    caught = first_wrong(CONTROLS[name], 150)
    assert caught is not None, CONTROLS[name].what
    assert caught.lost or caught.stuck


def test_a_seed_draws_the_same_schedule_and_comes_to_the_same_end() -> None:
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    caught = first_wrong(CONTROLS["puback"], 150)
    assert caught is not None
    assert list(trials(CONTROLS["puback"], [caught.seed])) == [caught]


def test_the_command_counts_and_tells_what_a_control_breaks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    caught = first_wrong(CONTROLS["no-new-stream"], 150)
    assert caught is not None
    words = ["soak", "receipts", "--schedules", "1", "--seed", str(caught.seed), "--json"]
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["wrong"] == []
    assert cli.main([*words, "--control", "no-new-stream"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["variant"] == "no new stream after a rollback"
    assert report["lost"] or report["stuck"]
    assert report["wrong"][0]["seed"] == caught.seed


@pytest.mark.parametrize(("schedules", "control"), [(0, None), (1, "no-such-rule")])
def test_options_that_mean_nothing_are_refused(
    schedules: int, control: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_receipts(schedules, 0, control=control, as_json=False) == 2
    assert "expected" in capsys.readouterr().err
