"""The worked example of docs/modbus.md, put beside a configuration and read over a line."""

import json
import re
import struct
from pathlib import Path

import pytest
from commands_bench import BAUD, Bench, prepare

from agent.modbus.profile import parse
from ext.checksum import crc16_modbus
from hil.line.pty import PtyLine, served
from hil.line.responder import Answer

PAGE = Path(__file__).parents[3] / "docs/modbus.md"
UNIT = 3


class Holding:
    """A unit whose holding registers are what the page's example answers, and a serial number."""

    def __init__(self, words: dict[int, bytes]) -> None:
        self._words = words

    def receive(self, data: bytes) -> list[Answer]:
        unit, function, address, count = struct.unpack(">BBHH", data[:6])
        if unit != UNIT:
            return []
        if function != 3 or any(address + at not in self._words for at in range(count)):
            return [framed(bytes([unit, function | 0x80, 2]))]
        held = b"".join(self._words[address + at] for at in range(count))
        return [framed(bytes([unit, function, len(held)]) + held)]


def framed(body: bytes) -> Answer:
    return Answer(body + crc16_modbus(body).to_bytes(2, "little"))


@pytest.fixture
def profile_text() -> str:
    found = re.search(r"```toml profile\n(.*?)```", PAGE.read_text(), re.S)
    assert found
    return found.group(1)


@pytest.fixture
def bench(tmp_path: Path, profile_text: str) -> Bench:
    bench = prepare(tmp_path)
    (tmp_path / "meters").mkdir()
    (tmp_path / "meters/example_100.toml").write_text(profile_text)
    bench.edit('"eastron_sdm630"', '"meters/example_100.toml"')
    return bench


def test_a_meter_is_read_with_a_profile_that_lies_beside_the_configuration(
    bench: Bench, profile_text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = parse(profile_text, "docs/modbus.md").examples
    serial = {512: b"\x00\x12", 513: b"\xd6\x87"}
    line = PtyLine(bench.folder / "modbus", Holding(example.words | serial), baud=BAUD)
    with served(line):
        assert bench.say("read", f"m{UNIT}", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["sample"]["serial"] == "1234567"
    assert {name: shown["sample"][name] for name in example.expect} == example.expect
    rows = {row["name"]: (row["raw"], row["value"], row["unit"]) for row in shown["registers"]}
    assert rows["energy_import"] == ("0012d687", 12345670, "Wh")
    assert rows["power"] == ("ff6a", -1500, "W")


def test_check_names_file_and_key_of_a_profile_that_is_wrong(
    bench: Bench, profile_text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = profile_text.replace('unit = "V"', 'unit = "Volt"')
    (bench.folder / "meters/example_100.toml").write_text(wrong)
    assert bench.say("check") != 0
    said = capsys.readouterr()
    assert "example_100.toml: register 1: unit: expected one of" in said.out + said.err
