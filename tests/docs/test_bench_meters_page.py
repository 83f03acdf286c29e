"""docs/bench-meters.md: its example runs, and its tables are whole."""

from __future__ import annotations

import dataclasses
import re
import threading
from pathlib import Path

import pytest

from hil.meters.dlms.meter import MODELS, DlmsMeter
from hil.meters.dlms.quirks import QUIRKS
from hil.meters.dlms.security import MeterSecurity

PAGE = (Path(__file__).parents[2] / "docs/bench-meters.md").read_text()


def test_the_example_is_a_line_with_a_meter(tmp_path, monkeypatch) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE, re.S)
    assert found
    monkeypatch.chdir(tmp_path)
    stop = threading.Event()
    stop.set()
    monkeypatch.setattr(threading, "Event", lambda: stop)
    there: dict[str, object] = {}
    exec(found.group(1), there)
    assert isinstance(there["meter"], DlmsMeter)


@pytest.mark.parametrize("described", [DlmsMeter, MeterSecurity])
def test_every_field_is_in_a_table(described: type) -> None:
    fields = {field.name for field in dataclasses.fields(described)}
    (table,) = re.findall(rf"^## .*`{described.__name__}`\n(.*?)^## ", PAGE + "\n## ", re.S | re.M)
    rows = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", rows)) == fields


def test_every_quirk_is_in_the_table_as_the_program_says_it() -> None:
    (table,) = re.findall(r"^## Quirks\n(.*)", PAGE, re.S | re.M)
    assert dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", table, re.M)) == QUIRKS


def test_every_model_is_named() -> None:
    for model in MODELS:
        assert f"`{model}`" in PAGE
