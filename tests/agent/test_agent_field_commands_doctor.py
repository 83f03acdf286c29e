"""`doctor` writes what support asks first, and nothing that must not leave the machine."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from commands_bench import Bench, Running, dlms_line, modbus_line, prepare

from agent.cli import main
from agent.config import load_config
from agent.run import Agent
from agent.status_file import read_status
from agent.store.database import Store
from agent.store.opening import DATABASE_FILE
from agent.store.rows import MeterEpoch
from hil.line.pty import served

PASSWORD = "Zauberlehrling-7"
HOST = "broker.stadtwerke.example"
METER = "bahnhofstrasse.3"
CONFIGURATION_PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Keys and configuration with names that would tell something."""
    bench = prepare(tmp_path / "kundenname")
    bench.edit('host = "127.0.0.1"', f'host = "{HOST}"  # ask Frau Sommer: 0781-555')
    bench.edit('id = "m3"', f'id = "{METER}"')
    (bench.folder / "lls").write_text(f"{PASSWORD}\n")
    return bench


@pytest.fixture
def ran(bench: Bench) -> Iterator[Bench]:
    """The bench after its agent has read, stored and found fault with a silent meter."""
    with served(modbus_line(bench.folder), dlms_line(bench.folder)):
        agent = Agent(load_config(bench.config))
        thread = threading.Thread(target=agent.run)
        thread.start()
        try:
            running = Running(agent, thread)
            running.until(
                lambda: "meter m9" in (read_status(bench.folder / "data") or {}).get("faults", {})
            )
            yield bench
        finally:
            agent.stop()
            thread.join()


def bundle(bench: Bench, name: str = "bundle.tar.gz") -> dict[str, str]:
    """Each file of a fresh bundle."""
    out = bench.folder / name
    assert bench.say("doctor", "--out", str(out)) == 0
    with tarfile.open(out) as tar:
        return {
            member.name.removeprefix("loadscape-doctor/"): file.read().decode()
            for member in tar
            if (file := tar.extractfile(member)) is not None
        }


def secrets(bench: Bench) -> Iterator[str]:
    yield PASSWORD
    yield PASSWORD.encode().hex()
    yield base64.b64encode(PASSWORD.encode()).decode()
    seed = bytes.fromhex((bench.keys / "sign.key").read_text())
    yield from (seed.hex(), seed.hex().upper(), base64.b64encode(seed).decode())
    for line in (bench.keys / "tls.key").read_text().splitlines():
        if not line.startswith("-----") and len(line) > 8:
            yield line


def test_no_secret_and_no_name_of_the_bench_is_anywhere_in_the_bundle(ran: Bench) -> None:
    files = bundle(ran)
    assert json.loads(files["status.json"])["faults"], "the agent has said something to redact"
    whole = "\n".join([*files, *files.values()])
    for secret in secrets(ran):
        assert secret not in whole
    for name in (HOST, "stadtwerke", METER, "bahnhof", "kundenname", "Sommer", "0781-555"):
        assert name not in whole
    for word in ("demo", "t07", "m9", "d17", "d30"):
        assert not re.search(rf"\b{word}\b", whole), word
    status = read_status(ran.folder / "data")
    assert status is not None
    for number in (status["stream"], status["boot"]):
        assert number not in whole


def test_the_bundle_says_what_support_asks_first(ran: Bench) -> None:
    files = bundle(ran)
    assert set(files) == {
        "README.txt",
        "configuration.toml",
        "versions.json",
        "check.json",
        "status.json",
        "store.json",
        "machine.json",
        "ports.json",
        "clock.json",
        "profiles/eastron_sdm120.toml",
        "profiles/eastron_sdm230.toml",
        "profiles/eastron_sdm630.toml",
        "profiles/idis_residential.toml",
    }
    assert all(name in files["README.txt"] for name in files if name != "README.txt")
    of = {name: json.loads(text) for name, text in files.items() if name.endswith(".json")}
    assert of["versions.json"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert of["status.json"]["running"] is True
    assert of["store.json"]["quick_check"] == "ok"
    assert of["machine.json"]["memory_kib"]["MemTotal"] > 0
    assert isinstance(of["clock.json"]["kernel"]["synchronised"], bool)
    configured = of["ports.json"]["configured"]
    assert [port["character_device"] for port in configured] == [True, True]
    assert any("keyset 1" in finding["says"] for finding in of["check.json"])
    # A fault is still told of the right meter, under its pseudonym.
    kept = json.loads((ran.folder / "loadscape-doctor.names.json").read_text())
    pseudonym = next(pseudonym for pseudonym, name in kept.items() if name == "m9")
    assert f"meter {pseudonym}" in of["status.json"]["faults"]


def test_pseudonyms_stay_the_same_and_stay_on_the_machine(bench: Bench) -> None:
    first = bundle(bench, "first.tar.gz")
    bench.edit('id = "m5"', 'id = "before-m5"')
    second = bundle(bench, "second.tar.gz")
    names_file = bench.folder / "loadscape-doctor.names.json"
    names = json.loads(names_file.read_text())
    assert names_file.stat().st_mode & 0o777 == 0o600
    assert (bench.folder / "first.tar.gz").stat().st_mode & 0o777 == 0o600
    meter = next(pseudonym for pseudonym, name in names.items() if name == METER)
    for files in (first, second):
        assert f'id = "{meter}"' in files["configuration.toml"]


def test_a_meter_that_only_the_store_still_knows_keeps_its_name_here(bench: Bench) -> None:
    data = bench.folder / "data"
    data.mkdir()
    store = Store(data / DATABASE_FILE, 16)
    with store.transaction():
        store.epoch_id(MeterEpoch("lindenhof-2", "S-99.8877", 1, 0b111111))
    store.close()
    said = {"meter lindenhof-2": "another serial number than S-99.8877; a new epoch begins"}
    (data / "status.json").write_text(json.dumps({"running": False, "faults": said}))
    files = bundle(bench)
    assert "a new epoch begins" in files["status.json"]
    assert json.loads(files["store.json"])["epochs"] == 1
    for name in ("lindenhof", "99.8877"):
        assert name not in "".join(files.values())


def test_a_gateway_keeps_its_address_and_a_meter_its_serial_number_here(bench: Bench) -> None:
    bench.edit(
        "[[line]]",
        '[[line]]\nname = "Keller Rathaus"\nport = "gw7.stadtwerke.example:502"\n'
        'protocol = "modbus-tcp"\n\n[[meter]]\nid = "m77"\nline = "Keller Rathaus"\n'
        'model = "eastron_sdm630"\nunit = 7\nserial = "SN-4711-x"\n\n'
        '[[line]]\nname = "head"\nport = "/dev/ttyUSB7"\nprotocol = "dlms"\n'
        'opening = "mode-e"\n\n[[meter]]\nid = "m78"\nline = "head"\n'
        'model = "idis_residential"\nserver_address = "1/17"\n'
        'device_address = "60012345"\n\n[[line]]',
    )
    files = bundle(bench)
    shown = files["configuration.toml"]
    assert re.search(r'^port = "host-\d+:502"$', shown, re.M)
    assert re.search(r'^serial = "serial-\d+"$', shown, re.M)
    assert re.search(r'^device_address = "serial-\d+"$', shown, re.M)
    for name in ("gw7", "Rathaus", "SN-4711-x", "60012345"):
        assert name not in "".join(files.values())


def test_a_profile_of_ones_own_is_held_without_names_and_an_absent_one_is_left_out(
    bench: Bench,
) -> None:
    shipped = (
        resources.files("agent.modbus").joinpath("profiles", "eastron_sdm120.toml").read_text()
    )
    (bench.folder / "own.toml").write_text(f"# measured at {METER}\n{shipped}")
    bench.edit('model = "eastron_sdm120"', 'model = "own.toml"')
    bench.edit('model = "eastron_sdm230"', 'model = "absent.toml"')
    files = bundle(bench)
    assert "# measured at meter-" in files["profiles/own.toml"]
    assert METER not in files["profiles/own.toml"]
    assert "profiles/absent.toml" not in files
    assert "absent.toml" in files["check.json"]


def test_the_words_of_a_program_that_holds_a_port_are_left_out(bench: Bench) -> None:
    hold = (
        "import serial, sys; s = serial.Serial(sys.argv[1], exclusive=True); "
        "print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", hold, str(bench.folder / "modbus"), "--password=Rumpelstilz"]
    with served(modbus_line(bench.folder), dlms_line(bench.folder)):
        other = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            files = bundle(bench)
        finally:
            other.communicate()
    assert f"held by process {other.pid}" in files["check.json"]
    assert "Rumpelstilz" not in "".join(files.values())


def test_a_configuration_that_cannot_be_used_is_diagnosed_too(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.edit("sample_s = 1", 'sample_s = 1\nadmin_password = "Sesam-oeffne-dich"\npin = 4711')
    files = bundle(bench)
    assert "is no key of this table" in capsys.readouterr().err
    shown = files["configuration.toml"]
    assert "admin_password: is no key of this table" in shown
    assert 'admin_password = "(redacted)"' in shown
    assert 'pin = "(redacted)"' in shown
    whole = "".join(files.values())
    assert "Sesam" not in whole
    assert HOST not in whole


def test_a_file_that_is_no_toml_is_not_shown_at_all(bench: Bench) -> None:
    bench.config.write_text(f"[agent\ntenant = '{PASSWORD}'\n")
    files = bundle(bench)
    assert PASSWORD not in "".join(files.values())
    assert "Expected ']'" in files["configuration.toml"]
    assert "machine.json" in files


def test_every_documented_key_is_shown(tmp_path: Path) -> None:
    example = re.search(r"```toml agent\n(.*?)```", CONFIGURATION_PAGE.read_text(), re.S)
    assert example is not None
    (tmp_path / "agent.toml").write_text(example[1])
    out = tmp_path / "bundle.tar.gz"
    assert main(["doctor", "--config", str(tmp_path / "agent.toml"), "--out", str(out)]) == 0
    with tarfile.open(out) as tar:
        file = tar.extractfile("loadscape-doctor/configuration.toml")
        assert file is not None
        shown = file.read().decode()
    assert "(redacted)" not in shown
    for key in re.findall(r"^([a-z_0-9]+) = ", example[1], re.M):
        assert f"\n{key} = " in shown


def test_a_bundle_is_not_written_over_another_nor_beside_damaged_pseudonyms(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    out = bench.folder / "bundle.tar.gz"
    out.write_bytes(b"an older one")
    assert bench.say("doctor", "--out", str(out)) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert out.read_bytes() == b"an older one"
    out.unlink()
    (bench.folder / "loadscape-doctor.names.json").write_text("{")
    assert bench.say("doctor", "--out", str(out)) == 2
    assert "move the file away" in capsys.readouterr().err
    assert not out.exists()


def test_doctor_tells_as_json_what_the_bundle_holds(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    out = bench.folder / "bundle.tar.gz"
    assert bench.say("doctor", "--json", "--out", str(out)) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["bundle"] == str(out)
    assert said["bytes"] == out.stat().st_size
    assert "configuration.toml" in said["holds"]
