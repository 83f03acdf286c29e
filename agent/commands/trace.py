"""`trace`: reads a meter, or all meters of a line, and shows every frame with its verdict.

A frame is shown when it was judged, so a heard frame's time is that of its
last byte. On a DLMS line the APDUs follow, deciphered with the meter's keys;
the bytes that open an association are starred out: traces are sent around. A
line belongs to one program at a time, so this needs the line to itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from agent.commands import EXIT_OK, EXIT_WRONG
from agent.commands.passed import Passed
from agent.config import AgentConfig, ConfigError, LineConfig, MeterConfig
from agent.driver import Driver, ReadError
from agent.drivers import build_driver, open_line
from agent.line.port import Port, PortLost
from agent.line.serial_port import SerialPort
from agent.line.tcp_port import TcpPort
from agent.modbus.frame import Frame
from agent.run import clock_of
from wire.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.modbus.gateway import TcpGateway

_ROUND_S: Final = 1.0
"""A round is not begun sooner after the one before, so that the eye can follow."""
_REQUEST_LENGTH: Final = 8
_DECODED: Final = ("request", "answer", "exception", "bad_crc", "other_", "echo", "late")
"""Verdicts whose bytes begin like a Modbus frame."""


def add(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument(
        "target", metavar="METER|LINE", help="the id of a [[meter]] or the name of a [[line]]"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="N",
        help="how long (default 10; Ctrl-C ends it sooner)",
    )


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """Print frames as they come and their counts at the end; EXIT_WRONG if no meter was read."""
    line, meters = _target(config, chosen.target)
    clock = clock_of(config)
    show = _Printer(clock.now_utc_s(), as_json=chosen.json)
    port = open_line(line)
    try:
        through, tell_apdu = _watched(line, port, show, clock)
        drivers = [
            (meter, build_driver(config, line, meter, through, clock, show.frame, tell_apdu))
            for meter in meters
        ]
        port.open()
        outcome = _read_in_turn(drivers, time.monotonic() + chosen.seconds)
    except PortLost as error:
        print(f"loadscape-agent: line {line.name}: {error}", file=sys.stderr)
        return EXIT_WRONG
    finally:
        port.close()
    show.sum_up(outcome)
    return EXIT_OK if any(good for good, _ in outcome.values()) else EXIT_WRONG


def _watched(
    line: LineConfig, port: SerialPort | TcpPort | TcpGateway, show: _Printer, clock: Clock
) -> tuple[Port | TcpGateway, Callable[[str, bytes, bytes], None] | None]:
    """The port as the drivers of a DLMS line use it, and who is told of their APDUs.

    Modbus drivers tell of their frames themselves.
    """
    if not isinstance(port, SerialPort | TcpPort) or not line.is_dlms:
        return port, None
    from agent.commands.trace_dlms import DlmsTrace, TracedPort, TracedSerialPort

    wrapper = line.is_tcp and line.framing == "wrapper"
    trace = DlmsTrace(show, clock, wrapper=wrapper, mode_e=line.opening == "mode-e")
    if isinstance(port, SerialPort):
        return TracedSerialPort(port, trace), trace.apdu
    return TracedPort(port, trace), trace.apdu


def decoded(frame: Frame) -> dict[str, int]:
    """What the bytes of a judged frame say: unit, function, and what was asked or came."""
    data = frame.data
    if len(data) < 2 or not frame.verdict.startswith(_DECODED):
        return {}
    what = {"unit": data[0], "function": data[1] & 0x7F}
    is_request = frame.verdict in ("request", "echo")
    if is_request and len(data) >= _REQUEST_LENGTH - 2:
        what["address"] = int.from_bytes(data[2:4], "big")
        what["registers"] = int.from_bytes(data[4:6], "big")
    elif not is_request and len(data) > 2:
        if data[1] & 0x80:
            what["exception"] = data[2]
        else:
            what["registers"] = data[2] // 2
    return what


class _Printer:
    """Shows what passes as lines of text or of JSON, and counts it."""

    def __init__(self, start_utc_s: float, *, as_json: bool) -> None:
        self._start_utc_s = start_utc_s
        self._as_json = as_json
        self._counts: Counter[str] = Counter()
        if not as_json:
            start = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(start_utc_s))
            print(f"{'ms':>10}  since {start} UTC", flush=True)

    def frame(self, frame: Frame) -> None:
        """A frame of a Modbus line."""
        facts = decoded(frame)
        words = _words(facts)
        self(Passed(frame.at_utc_s, frame.direction, frame.verdict, frame.data, words, facts))

    def __call__(self, passed: Passed) -> None:
        self._counts[f"{passed.direction}: {passed.verdict}"] += 1
        after_ms = (passed.at_utc_s - self._start_utc_s) * 1000
        if self._as_json:
            said = {
                "ms": round(after_ms, 1),
                "direction": passed.direction,
                "verdict": passed.verdict,
                "hex": passed.hex(),
                **passed.facts,
            }
            print(json.dumps(said), flush=True)
            return
        arrow = "->" if passed.direction == "sent" else "<-"
        if passed.verdict == "apdu":
            print(f"{'':10} {arrow} {passed.words}", flush=True)
            return
        text = f"{after_ms:10.1f} {arrow} {passed.words:40} {passed.verdict:14} "
        print(text + passed.hex(" ").upper(), flush=True)

    def sum_up(self, outcome: dict[str, tuple[int, int]]) -> None:
        """How many frames of each verdict; how often each meter was read, and was not."""
        if self._as_json:
            meters = {meter: {"read": n, "failed": bad} for meter, (n, bad) in outcome.items()}
            print(json.dumps({"counts": dict(self._counts), "meters": meters}))
            return
        print()
        for verdict, count in sorted(self._counts.items()):
            print(f"{count:8}  {verdict}")
        for meter, (good, bad) in outcome.items():
            print(f"meter {meter}: read {good} times, failed {bad} times")


def _words(what: dict[str, int]) -> str:
    if not what:
        return ""
    text = f"unit {what['unit']} function {what['function']}"
    if "exception" in what:
        return f"{text} exception {what['exception']}"
    if "registers" in what:
        text += f" {what['registers']} registers"
    if "address" in what:
        text += f" from {what['address']}"
    return text


def _target(config: AgentConfig, name: str) -> tuple[LineConfig, tuple[MeterConfig, ...]]:
    """The line to open and the meters to read on it; raises ConfigError."""
    lines = {line.name: line for line in config.lines}
    for meter in config.meters:
        if meter.id == name:
            return lines[meter.line], (meter,)
    if name not in lines:
        raise ConfigError(
            f"{config.places.path}: {name!r} is neither the id of a [[meter]] nor the name of a "
            f"[[line]]; lines are: {', '.join(lines)}"
        )
    meters = config.meters_of(name)
    if not meters:
        raise ConfigError(
            f"{config.places.path}: line {name!r} has no [[meter]] to read; add one, or use scan"
        )
    return lines[name], meters


def _read_in_turn(
    drivers: Sequence[tuple[MeterConfig, Driver]], until_s: float
) -> dict[str, tuple[int, int]]:
    """Read the meters round by round until then or Ctrl-C; how often each was read, and was not."""
    outcome = {meter.id: (0, 0) for meter, _ in drivers}
    try:
        while (began_s := time.monotonic()) < until_s:
            for meter, driver in drivers:
                good, bad = outcome[meter.id]
                try:
                    driver.sample()
                    outcome[meter.id] = good + 1, bad
                except (ReadError, PortLost) as error:
                    # A port that vanished is opened anew by the next read.
                    outcome[meter.id] = good, bad + 1
                    print(f"meter {meter.id}: {error}", file=sys.stderr, flush=True)
                if time.monotonic() >= until_s:
                    break
            time.sleep(max(0.0, min(began_s + _ROUND_S, until_s) - time.monotonic()))
    except KeyboardInterrupt:
        # Ctrl-C is how one ends a trace; the counts are still wanted.
        return outcome
    return outcome
