"""docs/field-commands.md describes every command and every option, and none that is not there."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from agent.cli import parser
from agent.modbus.transaction import Reason

PAGE = Path(__file__).parents[2] / "docs" / "field-commands.md"
MODBUS_VERDICTS = ("answer", "exception", "silence")
DLMS_VERDICTS = ("frame", "packet", "mode_e", "apdu", "noise")
EVERYWHERE = {"-h", "--help", "--config"}


def commands() -> dict[str, argparse.ArgumentParser]:
    for action in parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("the program has no commands")


def actions(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All words of a command, those of its own actions too."""
    for action in command._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from actions(below)


def options(command: str) -> set[str]:
    words = actions(commands()[command])
    return {option for action in words for option in action.option_strings} - EVERYWHERE


def sections() -> dict[str, str]:
    """The page's part about each command."""
    parts = re.split(r"^## `([a-z]+)`$", PAGE.read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_command_has_its_part_and_no_other_has_one() -> None:
    assert set(sections()) == set(commands())


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_option_is_described_and_none_that_is_not_there(command: str) -> None:
    named = set(re.findall(r"--[a-z][a-z-]+", sections()[command])) - EVERYWHERE
    assert named == options(command)


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: loadscape-agent {command}" in said
    for action in actions(commands()[command]):
        assert action.help, action.dest


def test_every_verdict_of_a_trace_is_explained() -> None:
    explained = set(re.findall(r"`([a-z_0-9]+)[^`]*`", sections()["trace"]))
    assert {*get_args(Reason), *MODBUS_VERDICTS, *DLMS_VERDICTS} <= explained


def test_every_command_is_in_the_table_of_questions() -> None:
    table = PAGE.read_text().split("## ")[0]
    asked = set(re.findall(r"^\|[^|]+\| `([a-z]+)` \|$", table, re.M))
    assert asked == set(commands()) - {"run"}
