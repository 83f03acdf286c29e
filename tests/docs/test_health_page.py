"""docs/health.md names every metric of the agent, every code of its log, and the figures in use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent import clock_trust, device_log, watchdog
from agent.health import METRICS
from agent.store import holding

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "health.md").read_text()
ROWS = set(re.findall(r"^\| `(\w+)` \| (.+) \|$", TEXT, re.M))


@pytest.mark.parametrize("table", [METRICS, device_log.CODES])
def test_every_name_is_there_with_its_meaning(table: dict[str, str]) -> None:
    assert set(table.items()) <= ROWS


def test_every_entry_that_the_agent_writes_has_a_code_of_the_table() -> None:
    call = r'(?:device_log\.add|\.log|\._tell|log\.append)\(\s*(?:\w+, )?"(\w+)"'
    files = [*(ROOT / "agent").glob("*.py"), *(ROOT / "agent" / "store").glob("*.py")]
    written = {code for file in files for code in re.findall(call, file.read_text())}
    assert {"start", "fault", "clock_step", "stream", "restamped"} <= written
    assert written <= set(device_log.CODES)


def test_the_figures_are_those_of_the_program() -> None:
    for figure in (
        f"each line {watchdog.LINE_S:.0f} s, the writer {watchdog.WRITER_S:.0f} s",
        f"connection to the broker {watchdog.NETWORK_S:.0f} s",
        f"at most {clock_trust.WITNESS_SPAN_S:.0f} s before",
        f"within {clock_trust.WITNESS_OFF_S:.0f} s of that span",
        f"held for {holding.LONGEST_S // 86_400} days",
        f"{holding.MOST_ROWS:,}",
    ):
        assert figure in re.sub(r"\s+", " ", TEXT)
    for word in clock_trust.WORDS:
        assert f'`"{word}"`' in TEXT
