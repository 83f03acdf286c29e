"""What is known of a meter's counters reaches the intervals that central gets, through the agent.

A profile beside the configuration knows where the counter rolls over; a serial
number set by hand names the meter; both must have gone all the way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent_bench import Central
from broker_bench import Broker
from test_agent_publish import Collector

from agent.config import load_config
from agent.run import Agent
from hil.line.pty import PtyLine, served
from hil.meters.faces import Reset, RollsOver, Running
from hil.meters.modbus import ModbusBus, ModbusMeter
from wire.channels import SAMPLED_SCHEMA
from wire.clock import SharedClock, set_shared_clock
from wire.quality import Quality

S = 900
T0 = 1_781_222_400 - 1_781_222_400 % 86_400
SPEED = 200.0
BAUD = 115_200
IMPORT = SAMPLED_SCHEMA.index("import_wh")
MODULUS = 1_000_000
"""A display of four digits of kWh, counted in the Wh of a float32 exactly."""
PROFILE = """
model = "example"
title = "A meter that tells no serial number and rolls over at 1,000 kWh"
phases = 1
function = 4
word_order = "big"
side = "primary"
serial = "unknown"
identify = "unknown"
max_registers = 80
response_timeout_ms = 500
most_power_w = 13500
most_power_source = "the test"
[sample]
import_wh = ["active_energy_import"]
[sources]
test = "hil/meters/modbus_maps.json, eastron_sdm120"
[[register]]
name = "active_energy_import"
address = 72
type = "float32"
scale = 1
unit = "kWh"
sources = ["test"]
step = "1 Wh"
rollover = 1000
rollover_source = "test"
"""


def write_configuration(folder: Path, broker: Broker, clock_file: Path) -> Path:
    (folder / "example.toml").write_text(PROFILE)
    path = folder / "agent.toml"
    path.write_text(f"""
[agent]
tenant = "demo"
device = "t07"
data_dir = "data"
recover_days = 1
clock_file = "{clock_file}"
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
name = "modbus-1"
port = "{folder}/line"
protocol = "modbus"
baud = {BAUD}
[[meter]]
id = "rolls"
line = "modbus-1"
model = "example.toml"
unit = 1
serial = "H4711"
[[meter]]
id = "resets"
line = "modbus-1"
model = "example.toml"
unit = 2
serial = "H4712"
""")
    return path


@contextmanager
def running(agent: Agent) -> Iterator[None]:
    thread = threading.Thread(target=agent.run)
    thread.start()
    try:
        yield
    finally:
        agent.stop()
        thread.join()


@contextmanager
def collecting(folder: Path) -> Iterator[tuple[Broker, Central, Collector]]:
    broker = Broker(folder / "broker")
    broker.start()
    central = Central()
    central.enrol(folder)
    collector = Collector(broker, central)
    try:
        yield broker, central, collector
    finally:
        collector.stop()
        broker.stop()


def test_a_rollover_and_a_break_of_a_meter_named_by_hand_reach_central(tmp_path: Path) -> None:
    clock_file = tmp_path / "clock.json"
    set_shared_clock(clock_file, T0 + 300.0, 1.0)
    clock = SharedClock(clock_file)
    faces = {
        1: RollsOver(Running(T0, 3_600.0, MODULUS - S - 450), MODULUS),
        2: Reset(Running(T0, 3_600.0, 500_000), at_utc_s=T0 + 2 * S + 450),
    }
    bus = ModbusBus({n: ModbusMeter("eastron_sdm120", face) for n, face in faces.items()}, clock)
    line = PtyLine(tmp_path / "line", bus, baud=BAUD, paced=False)
    with served(line), collecting(tmp_path) as (broker, central, collector):
        agent = Agent(load_config(write_configuration(tmp_path, broker, clock_file)))
        with running(agent):
            set_shared_clock(clock_file, T0 + 600.0, SPEED)
            last = T0 + 4 * S
            wanted = [("rolls", "H4711", last), ("resets", "H4712?2", last)]
            assert collector.wait(lambda: all(key in central.values for key in wanted), 60)
    rolled = [central.values["rolls", "H4711", T0 + n * S] for n in (1, 2, 3, 4)]
    assert [bool(values[-1] & Quality.ROLLOVER) for values in rolled] == [0, 1, 0, 0]
    edges = [MODULUS - 450, 450, 450 + S, 450 + 2 * S]
    assert all(abs(values[IMPORT] - edge) <= 4 for values, edge in zip(rolled, edges, strict=True))
    broken = central.values["resets", "H4712?2", T0 + 3 * S]
    assert broken[-1] & Quality.COUNTER_RESET
    assert abs(broken[IMPORT] - 450) <= 4
    assert ("resets", "H4712", T0 + 2 * S) in central.values
