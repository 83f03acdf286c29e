"""The whole agent over real serial lines (PTY pairs) and a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from agent_bench import Central
from broker_bench import Broker
from test_agent_publish import Collector

from agent.config import load_config
from agent.run import Agent
from agent.status_file import read_status
from hil.line.pty import LineLoop, PtyLine
from hil.line.responder import Answer
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.modbus import ModbusBus, ModbusMeter
from hil.meters.shown import Gauges, Recorded, Registers
from wire.channels import SAMPLED_SCHEMA
from wire.clock import SharedClock, set_shared_clock
from wire.quality import Quality

S = 900
T0 = 1_781_222_400 - 1_781_222_400 % 86_400
BAUD = 115_200
_RAW, _AGE = SAMPLED_SCHEMA.index("raw_import_wh"), SAMPLED_SCHEMA.index("raw_age_ms")


class Steady:
    """A meter that runs at a constant power; shows 10 Wh steps so that resolutions agree."""

    def __init__(self, number: int) -> None:
        self.serial = f"S{number:06}"
        self._w = 3600 * (number + 1)

    def registers(self, at_utc_s: float) -> Registers:
        wh = int(self._w * (at_utc_s - T0 + 86_400 * 2) / 3600) // 10 * 10
        return Registers(wh, 0, wh // 40 * 10)

    def gauges(self, at_utc_s: float) -> Gauges:
        return Gauges(230.0, self._w / 230, self._w, 50.0)

    def recorded(self, first_end_utc_s: int, last_end_utc_s: int) -> Sequence[Recorded]:
        first = max(-(-first_end_utc_s // S) * S, T0 - 86_400)
        rows = []
        for end in range(first, last_end_utc_s + 1, S):
            now = self.registers(end)
            rows.append(Recorded(end, now.import_wh, 0, now.import_varh, 2300, 100))
        return rows


class Garbled:
    """A line on which one unit answers with garbage; the rest is as it was."""

    def __init__(self, bus: ModbusBus, unit: int) -> None:
        self._bus = bus
        self._unit = unit

    def receive(self, data: bytes) -> list[Answer]:
        if data[:1] == bytes([self._unit]):
            return [Answer(b"\x55\xaa" * 20)]
        return self._bus.receive(data)


class Town:
    """One agent's lines, broker and central."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock_file = folder / "clock.json"
        set_shared_clock(self.clock_file, T0 + 300.0, 1.0)
        clock = SharedClock(self.clock_file)
        self.dlms = {f"d{k}": Steady(k) for k in range(5)}
        self.modbus = {f"b{k}": Steady(100 + k) for k in range(3)}
        dlms_bus = DlmsBus(
            {f"1/{17 + k}": DlmsMeter(shown) for k, shown in enumerate(self.dlms.values())}, clock
        )
        units = {
            k + 1: ModbusMeter("eastron_sdm630", shown)
            for k, shown in enumerate(self.modbus.values())
        }
        self._stop = threading.Event()
        lines = [
            PtyLine(folder / "dlms", dlms_bus, baud=BAUD),
            PtyLine(folder / "modbus", Garbled(ModbusBus(units, clock), 9), baud=BAUD),
        ]
        self._loop = threading.Thread(target=LineLoop(lines).run, args=(self._stop,))
        self._loop.start()
        self.broker = Broker(folder / "broker")
        self.broker.start()
        self.central = Central()
        self.central.enrol(folder)
        self.collector = Collector(self.broker, self.central)
        (folder / "lls").write_text("loadscape\n")
        (folder / "lls").chmod(0o600)
        self.config = load_config(self._write_config())
        self.start_agent()

    def start_agent(self) -> None:
        self.agent = Agent(self.config)
        self._running = threading.Thread(target=self.agent.run)
        self._running.start()

    def stop_agent(self) -> float:
        began_s = time.monotonic()
        self.agent.stop()
        self._running.join()
        return time.monotonic() - began_s

    def close(self) -> None:
        self.stop_agent()
        self._stop.set()
        self._loop.join()
        self.collector.stop()
        self.broker.stop()

    def has(self, meter: str, end: int) -> bool:
        return self.values(meter, end) is not None

    def values(self, meter: str, end: int) -> tuple[int, ...] | None:
        """What central has, under whatever serial number (an SDM630 shows none)."""
        for (name, _, known), values in list(self.central.values.items()):
            if name == meter and known == end:
                return values
        return None

    def _write_config(self) -> Path:
        broker, folder = self.broker, self.folder
        text = f"""
[agent]
tenant = "demo"
device = "t07"
data_dir = "data"
recover_days = 1
clock_file = "{self.clock_file}"
[broker]
host = "127.0.0.1"
port = {broker.port}
ca_file = "{broker.folder}/ca.crt"
cert_file = "{broker.folder}/demo-t07.crt"
key_file = "{broker.folder}/demo-t07.key"
[keys]
sign_key_file = "{folder}/sign.key"
root_public_file = "{folder}/root.pub"
keyset_file = "{folder}/keyset.cose"
[[line]]
name = "dlms-1"
port = "{folder}/dlms"
protocol = "dlms"
baud = {BAUD}
[[line]]
name = "modbus-1"
port = "{folder}/modbus"
protocol = "modbus"
baud = {BAUD}
"""
        for k, meter in enumerate([*self.dlms, "dead"]):
            text += (
                f'[[meter]]\nid = "{meter}"\nline = "dlms-1"\nmodel = "idis_residential"\n'
                f'server_address = "1/{17 + k if meter != "dead" else 90}"\npassword_file = "lls"\n'
            )
        for meter, unit in [*zip(self.modbus, (1, 2, 3), strict=True), ("garbled", 9)]:
            text += (
                f'[[meter]]\nid = "{meter}"\nline = "modbus-1"\n'
                f'model = "eastron_sdm630"\nunit = {unit}\n'
            )
        path = folder / "agent.toml"
        path.write_text(text)
        return path


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    made.close()


def test_a_day_is_recovered_and_every_interval_then_closes_live_at_a_fast_clock(town: Town) -> None:
    central, collector = town.central, town.collector
    recovered = 96 * len(town.dlms)
    assert collector.wait(lambda: central.rows >= recovered, 60)
    set_shared_clock(town.clock_file, T0 + 600.0, 200.0)
    last = T0 + 6 * S
    assert collector.wait(lambda: all(town.has(m, last) for m in [*town.dlms, *town.modbus]), 60)
    assert town.stop_agent() < 2.5

    for meter, shown in town.dlms.items():
        for end in range(T0 - 95 * S, last + S, S):
            (recorded,) = shown.recorded(end, end)
            values = central.values[meter, shown.serial, end]
            assert values[:3] == (recorded.import_wh, 0, recorded.import_varh), (meter, end)
            assert values[-1] == Quality.PROFILE
    for meter, shown in town.modbus.items():
        for end in range(T0 + S, last + S, S):
            values = town.values(meter, end)
            assert values is not None, (meter, end)
            assert not values[-1] & Quality.NO_DATA, (meter, end)
            raw_at = end - values[_AGE] / 1000
            early, late = shown.registers(raw_at - 5), shown.registers(raw_at + 5)
            assert early.import_wh <= values[_RAW] <= late.import_wh
            assert values[_RAW] <= values[0]
    garbled = [v[-1] for (m, _, _), v in central.values.items() if m == "garbled"]
    assert garbled
    assert set(garbled) == {int(Quality.NO_DATA)}
    status = read_status(town.config.data_dir)
    assert status is not None
    assert "meter garbled" in status["faults"]
    assert "meter dead" in status["faults"]


def test_a_restarted_agent_reports_what_it_missed_and_invents_nothing(town: Town) -> None:
    central, collector = town.central, town.collector
    set_shared_clock(town.clock_file, T0 + 600.0, 200.0)
    assert collector.wait(lambda: all(town.has(m, T0 + 2 * S) for m in town.modbus), 60)
    town.stop_agent()
    set_shared_clock(town.clock_file, T0 + 8 * S + 100.0, 200.0)
    town.start_agent()
    last = T0 + 11 * S
    assert collector.wait(lambda: all(town.has(m, last) for m in [*town.dlms, *town.modbus]), 60)
    town.stop_agent()
    for meter in town.modbus:
        known = [town.values(meter, end) for end in range(T0 + S, last + S, S)]
        assert None not in known
        flags = [values[-1] & Quality.NO_DATA for values in known if values]
        assert flags[0] == 0
        assert flags[5] == flags[6] == Quality.NO_DATA
        assert flags[-1] == 0
    for meter, shown in town.dlms.items():
        for end in range(T0 + S, last + S, S):
            (recorded,) = shown.recorded(end, end)
            assert central.values[meter, shown.serial, end][0] == recorded.import_wh
