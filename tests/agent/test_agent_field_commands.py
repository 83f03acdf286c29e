"""What an installer types at the concentrator: check, read, scan, status; on real serial lines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import main
from hil.site.installation import Installation
from hil.site.settings import Settings
from hil.site.town_choice import TownChoice

START_UTC_S = 1_774_699_260
DAY_S = 86_400


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One concentrator's keys and configuration, and its lines with meters on them."""
    choice = TownChoice("schutterwald", (START_UTC_S // DAY_S - 3) * DAY_S, ("t01",), 12)
    site = Installation(choice, tmp_path_factory.mktemp("site"), Settings(start_utc_s=START_UTC_S))
    site.prepare()
    site.start_broker()
    site.start_meters()
    yield site
    site.stop()


@pytest.fixture
def config(site: Installation) -> str:
    return str(site.layout.agent_config("t01"))


def meter_of(site: Installation, protocol: str) -> str:
    return next(m.id for m in site.town.meters if m.protocol == protocol and m.kind != "check")


def changed(site: Installation, tmp_path: Path, before: str, after: str) -> str:
    """A copy of the configuration with one change."""
    text = site.layout.agent_config("t01").read_text()
    assert before in text
    file = tmp_path / "agent.toml"
    file.write_text(text.replace(before, after, 1))
    return str(file)


def test_check_finds_nothing_wrong_with_a_sound_configuration(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--config", config]) == 0
    said = capsys.readouterr().out
    assert "12 meters on 2 lines" in said
    assert "keyset 1" in said


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ('protocol = "dlms"', 'protocol = "dmls"', "protocol"),
        ("sample_s", "sampel_s", "sampel_s"),
        ('model = "idis_residential"', 'model = "idis_residental"', "idis_residental"),
        ("-modbus-1", "-modbus-9", "modbus-9"),
        ("tls.crt", "tsl.crt", "tsl.crt"),
        ("sign.key", "sing.key", "sing.key"),
    ],
)
def test_check_names_what_is_wrong(
    site: Installation,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    before: str,
    after: str,
    named: str,
) -> None:
    assert main(["check", "--config", changed(site, tmp_path, before, after)]) in (1, 2)
    said = capsys.readouterr()
    assert named in said.out + said.err


def test_a_meter_is_read_with_units(
    site: Installation, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    meter = meter_of(site, "dlms")
    assert main(["read", "--config", config, meter]) == 0
    said = capsys.readouterr().out
    serial = next(m.serial for m in site.town.meters if m.id == meter)
    assert serial in said
    assert "kWh" in said
    assert "interval ends, UTC" in said


def test_a_meter_is_read_as_json_with_what_it_shows(
    site: Installation, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    meter = meter_of(site, "dlms")
    face = site.town.shown("t01")[meter]
    before = face.registers(site.clock.now_utc_s())
    assert main(["read", "--json", "--config", config, meter]) == 0
    sample = json.loads(capsys.readouterr().out)["sample"]
    after = face.registers(site.clock.now_utc_s())
    assert before.import_wh <= sample["import_wh"] <= after.import_wh


def test_an_unknown_meter_is_refused_with_a_name_that_is_near(
    site: Installation, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    meter = meter_of(site, "modbus")
    assert main(["read", "--config", config, meter[:-1]]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_a_scan_finds_the_modbus_units_and_the_models_that_fit(
    site: Installation, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    on_line = {int(m.address): m.model for m in site.town.meters if m.protocol == "modbus"}
    first, last = min(on_line), min(on_line) + 3
    asked = {unit: model for unit, model in on_line.items() if first <= unit <= last}
    status = main(
        ["scan", "--json", "--config", config, "--addresses", f"{first}-{last}", "modbus-1"]
    )
    assert status == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert {int(answer["address"]) for answer in found} == set(asked)
    for answer in found:
        assert asked[int(answer["address"])] in answer["models"]


def test_a_scan_finds_dlms_meters_by_their_serial_numbers(
    site: Installation, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    serials = {m.address: m.serial for m in site.town.meters if m.protocol == "dlms"}
    status = main(["scan", "--json", "--config", config, "--addresses", "17-19", "dlms-1"])
    assert status == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert {answer["address"]: answer["serial"] for answer in found} == {
        address: serials[address] for address in ("1/17", "1/18", "1/19")
    }


def test_status_tells_of_an_agent_that_never_ran_one_that_runs_and_one_that_stopped(
    site: Installation, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--config", config]) == 3
    assert "no agent has run" in capsys.readouterr().err
    site.start_agent("t01")
    deadline_s = time.monotonic() + 30
    while main(["status", "--config", config]) != 0:
        assert time.monotonic() < deadline_s
    assert "demo-t01: running" in capsys.readouterr().out
    # The line belongs to the running agent: a second reader is told so.
    assert main(["read", "--config", config, meter_of(site, "modbus")]) == 1
    assert "held by process" in capsys.readouterr().err
    site.processes.stop("agent-t01")
    assert main(["status", "--json", "--config", config]) == 3
    assert json.loads(capsys.readouterr().out)["running"] is False
