"""docs/receipts.md: its files, figures, reasons and controls are those of the programs."""

from __future__ import annotations

import re
from pathlib import Path

from agent import sending
from agent.store import again, receipts
from hil.receipts.controls import CONTROLS
from wire.receipt import REASONS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "receipts.md").read_text()


def test_every_file_that_holds_a_rule_is_there() -> None:
    rows = re.findall(r"^\| R\d \|.*\| ([^|]+) \|$", TEXT, re.M)
    assert len(rows) == 6
    for named in re.findall(r"`([a-z_/.]+)`", " ".join(rows)):
        assert (ROOT / named).exists(), named


def test_every_reason_and_every_control_is_named() -> None:
    assert all(f"`{reason}`" in TEXT for reason in REASONS)
    assert {name for name in CONTROLS if f"`{name}`" in TEXT} == set(CONTROLS)


def test_the_figures_are_the_programs() -> None:
    assert sending.RECEIPT_TIMEOUT_S[0] == 30
    assert "no receipt after 30 s" in TEXT
    assert receipts.NEW_STREAM_PAUSE_S == 300
    assert "at most one new stream every 5 minutes" in TEXT
    assert again.AT_ONCE == 3
    assert "three times at once, then after an hour, doubling to a day" in TEXT


def test_every_fault_of_the_table_is_one_that_the_agent_reports() -> None:
    sources = [*(ROOT / "agent").glob("*.py"), *(ROOT / "agent" / "store").glob("*.py")]
    code = "".join(path.read_text() for path in sources)
    faults = re.findall(r"agent's fault `(\w+)`", TEXT)
    assert len(faults) == 4
    for fault in faults:
        assert re.search(rf'report\(\s*"{fault}"', code), fault
