"""`scan` names meters and prints tables that can be pasted into the configuration as they are."""

from __future__ import annotations

import asyncio
import json
import re
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from commands_bench import (
    BAUD,
    Bench,
    Recording,
    ciphered_line,
    dlms_line,
    give_keys,
    prepare,
)
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from agent.commands.answering import Answering, meter_table
from agent.config import load_config
from hil.line.mode_e import ModeE
from hil.line.pty import PtyLine, served
from hil.line.uart import Uart
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.steady import Steady
from wire.clock import SystemClock

NEW_UNIT = 7


def line_of(folder: Path, uart: Uart | None = None) -> PtyLine:
    """Unit 3, which is configured, and unit 7, which is not."""
    meters = {
        3: ModbusMeter("eastron_sdm630", Steady("21000003")),
        NEW_UNIT: ModbusMeter("eastron_sdm230", Steady("21000007")),
    }
    baud = BAUD if uart is None else uart.baud
    return PtyLine(folder / "modbus", ModbusBus(meters, SystemClock()), baud=baud, uart=uart)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = prepare(tmp_path)
    with served(line_of(tmp_path), dlms_line(tmp_path)):
        yield bench


@pytest.fixture
def gateway_port() -> Iterator[int]:
    """A Modbus TCP server that other people wrote, with an SDM120 at unit 2."""
    registers = [0] * 80
    for address, value in ((0, 230.0), (6, 1.0), (12, 230.0), (72, 1234.5)):
        registers[address : address + 2] = struct.unpack(">2H", struct.pack(">f", value))
    data = [SimData(0, values=registers, datatype=DataType.REGISTERS)]
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    ready = threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        server = ModbusTcpServer([SimDevice(2, simdata=data)], address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        ports.append(server.transport.sockets[0].getsockname()[1])
        ready.set()
        await stop.wait()
        await server.shutdown()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield ports[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)


def test_a_scan_names_meters_by_their_own_word_and_says_which_are_configured(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("scan", "modbus-1", "--addresses", "3-7") == 0
    found = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert found["3"] == "is eastron_sdm630 by its own word, serial 21000003, configured as m3"
    # An SDM230 has no register that names it: what fits is told, and nothing is guessed.
    assert found["7"].startswith("fits ")
    assert "eastron_sdm230" in found["7"]
    assert found["7"].endswith("serial 21000007")


def test_a_meter_that_is_configured_as_another_model_is_pointed_at(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.edit('model = "eastron_sdm630"', 'model = "eastron_sdm120"')
    assert bench.say("scan", "modbus-1", "--addresses", "3") == 0
    assert "configured as m3, but with model eastron_sdm120" in capsys.readouterr().out


def test_a_printed_modbus_table_can_be_pasted_and_read_at_once(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.say("scan", "modbus-1", "--addresses", "3-7", "--toml") == 0
    tables = capsys.readouterr().out
    assert "# 3: is eastron_sdm630" in tables
    assert tables.count("[[meter]]") == 1
    bench.config.write_text(f"{bench.config.read_text()}\n{tables}")
    assert bench.say("read", f"modbus-1-{NEW_UNIT}", "--json") == 0
    assert json.loads(capsys.readouterr().out)["sample"]["serial"] == "21000007"


def test_a_printed_dlms_table_can_be_pasted_and_read_at_once(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    text = bench.config.read_text()
    bench.config.write_text(re.sub(r'\n\[\[meter\]\]\nid = "d20".*?\n\n', "\n\n", text, flags=re.S))
    assert "1/20" not in bench.config.read_text()
    assert bench.say("scan", "dlms-1", "--addresses", "20", "--toml") == 0
    tables = capsys.readouterr().out
    bench.config.write_text(f"{bench.config.read_text()}\n{tables}")
    assert bench.say("read", "dlms-1-20", "--json") == 0
    assert json.loads(capsys.readouterr().out)["sample"]["serial"] == "D0000020"


def test_a_line_with_another_baud_rate_than_configured_is_found_and_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = prepare(tmp_path)
    with served(line_of(tmp_path, Uart(19200))):
        assert bench.say("scan", "modbus-1", "--addresses", str(NEW_UNIT)) == 1
        assert "check wiring, or try --bauds" in capsys.readouterr().out
        words = ("--bauds", f"{BAUD},19200", "--addresses", str(NEW_UNIT))
        assert bench.say("scan", "modbus-1", *words) == 0
        said = capsys.readouterr()
        assert "at 19200 Bd 8N1" in said.out
        assert "with 2 settings" in said.err
        assert bench.say("scan", "modbus-1", "--toml", *words) == 0
        assert f"# The line is configured with {BAUD} Bd 8N1" in capsys.readouterr().out


def test_units_behind_a_gateway_are_found_read_and_traced(
    bench: Bench, gateway_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.edit(
        "[[line]]",
        f'[[line]]\nname = "tcp-1"\nport = "127.0.0.1:{gateway_port}"\n'
        'protocol = "modbus-tcp"\n\n[[line]]',
    )
    assert bench.say("scan", "tcp-1", "--addresses", "1-3", "--json") == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert "2" in [answer["address"] for answer in found]
    sdm120 = next(answer for answer in found if answer["address"] == "2")
    assert "eastron_sdm120" in sdm120["models"]
    with bench.config.open("a") as file:
        file.write(
            '\n[[meter]]\nid = "behind"\nline = "tcp-1"\nmodel = "eastron_sdm120"\nunit = 2\n'
        )
    assert bench.say("read", "behind") == 0
    assert re.search(
        r"^active_energy_import +72 449a 5000 +1,234\.500 kWh$", capsys.readouterr().out, re.M
    )
    assert bench.say("trace", "behind", "--seconds", "0.5") == 0
    said = capsys.readouterr().out
    assert re.search(r"-> unit 2 function 4 \d+ registers from 0 +request +02 04 00 00", said)
    assert re.search(r"<- unit 2 function 4 \d+ registers +answer +02 04 ", said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("dlms-1", "--bauds", "9600"), "dlms-1 is a dlms line"),
        (("dlms-1", "--parities", "E"), "only a serial Modbus line is tried with several"),
        (("modbus-1", "--toml", "--json"), "expected one of them"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert bench.say("scan", *words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--bauds=9601", "--bauds=fast", "--parities=M", "--bauds="])
def test_a_baud_rate_or_parity_that_nobody_has_is_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.say("scan", "modbus-1", option)
    assert ended.value.code == 2
    assert "expected some of" in capsys.readouterr().err


# --- the table itself


def test_where_several_models_fit_the_label_decides(tmp_path: Path) -> None:
    config = load_config(prepare(tmp_path).config)
    answer = Answering("7", "fits a, b", ("eastron_sdm120", "eastron_sdm230"))
    table = meter_table(config, config.lines[0], answer)
    assert 'model = "eastron_sdm120"  # or eastron_sdm230: see its label' in table


def test_where_no_model_fits_nothing_is_made_up(tmp_path: Path) -> None:
    config = load_config(prepare(tmp_path).config)
    table = meter_table(config, config.lines[0], Answering("7", "answers, but fits no model"))
    assert all(line.startswith("#") for line in table.splitlines())


@pytest.mark.parametrize("name", ["Trafo 7 / Keller", "--", "Straße", "x" * 80])
def test_an_id_is_valid_and_free_whatever_the_line_is_called(tmp_path: Path, name: str) -> None:
    bench = prepare(tmp_path)
    config = load_config(bench.config)
    line = replace(config.lines[0], name=name)
    answer = Answering("8", "is it", ("eastron_sdm120",))
    first = meter_table(config, line, answer)
    (meter_id,) = re.findall(r'^id = "(.*)"$', first, re.M)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", meter_id)
    taken = replace(config, meters=(replace(config.meters[0], id=meter_id),))
    (other_id,) = re.findall(r'^id = "(.*)"$', meter_table(taken, line, answer), re.M)
    assert other_id != meter_id


# --- DLMS


def test_a_ciphered_meter_is_found_with_the_keys_of_the_lines_meters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = prepare(tmp_path)
    give_keys(bench, "d17")
    with served(ciphered_line(tmp_path, ("1/17", "1/18"))):
        assert bench.say("scan", "dlms-1", "--addresses", "17-18", "--toml") == 0
    tables = capsys.readouterr().out
    assert "# 1/17: serial D0000017, device LSC1000000000001, fits idis_residential_gmac" in tables
    assert "configured as d17" in tables
    table = tables[tables.index("[[meter]]") :]
    assert 'model = "idis_residential_gmac"' in table
    assert 'credentials = "d17"' in table


def test_without_the_right_secret_a_scan_says_what_a_meter_tells_everyone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = prepare(tmp_path)
    with served(ciphered_line(tmp_path, ("1/18",))):
        assert bench.say("scan", "dlms-1", "--addresses", "18") == 0
    said = capsys.readouterr().out
    assert "serial D0000018, device LSC1000000000001, fits no shipped model with" in said


def test_behind_an_optical_head_the_one_meter_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = prepare(tmp_path)
    bench.edit('protocol = "dlms"', 'protocol = "dlms"\nopening = "mode-e"')
    head = ModeE(DlmsBus({"1/17": DlmsMeter(Recording("D0000017"))}, SystemClock()), fastest=6)
    line = PtyLine(tmp_path / "dlms", head, baud=300)
    head.attach(line)
    with served(line):
        words = ("--addresses", "16-20", "--model", "idis_residential")
        assert bench.say("scan", "dlms-1", *words) == 0
    said = capsys.readouterr()
    assert "the head on dlms-1 says LSC METER, 19200 Bd" in said.err
    assert said.out.split(maxsplit=1)[0] == "1/17"
    assert "serial D0000017" in said.out
    assert "fits idis_residential" in said.out


@pytest.mark.parametrize(
    ("form", "address", "said"),
    [("1", "17", "fits idis_residential"), ("4", "1/17", "a class of your own with")],
)
def test_meters_that_hear_another_form_of_their_address_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, address: str, said: str
) -> None:
    bench = prepare(tmp_path)
    bus = DlmsBus({address: DlmsMeter(Recording("D0000017"))}, SystemClock())
    with served(PtyLine(tmp_path / "dlms", bus, baud=BAUD)):
        words = ("--addresses", "16-17", "--address-bytes", form, "--model", "idis_residential")
        assert bench.say("scan", "dlms-1", *words) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split(maxsplit=1)[0] == address
    assert "serial D0000017" in line
    assert said in line


def test_a_form_of_address_is_for_lines_that_have_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = prepare(tmp_path)
    assert bench.say("scan", "modbus-1", "--address-bytes", "4") == 2
    assert "leave it out" in capsys.readouterr().err
