"""`trace`: reads a meter, or all meters of a line, and shows every frame with its verdict.

A frame is shown when it was judged, so a heard frame's time is that of its
last byte. What a DLMS line carries is shown as raw bytes, piece by piece, with
the password that opens an association starred out: traces are sent around. A
line belongs to one program at a time, so this needs the line to itself.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal

from agent.commands import EXIT_OK, EXIT_WRONG
from agent.config import AgentConfig, ConfigError, LineConfig, MeterConfig
from agent.driver import Driver, ReadError
from agent.drivers import build_driver, open_line, password_of
from agent.line.port import Port, PortLost
from agent.line.serial_port import SerialPort
from agent.line.tcp_port import TcpPort
from agent.modbus.frame import Frame, Observer
from agent.run import clock_of
from wire.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from agent.modbus.gateway import TcpGateway

_ROUND_S: Final = 1.0
"""A round is not begun sooner after the one before, so that the eye can follow."""
_REQUEST_LENGTH: Final = 8
_DECODED: Final = ("request", "answer", "exception", "bad_crc", "other_", "echo", "late")
"""Verdicts whose bytes begin like a Modbus frame."""
RAW: Final = "raw"
"""Verdict of bytes that nobody judged, as on a DLMS line."""


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
    show = _Printer(clock.now_utc_s(), as_json=chosen.json, hidden=_passwords(config, meters))
    port = open_line(line)
    traced: Port | TcpGateway = port
    if line.is_dlms and isinstance(port, SerialPort | TcpPort):
        traced = TracedPort(port, show, clock)
    try:
        drivers = [
            (meter, build_driver(config, line, meter, traced, clock, show)) for meter in meters
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


class TracedPort:
    """A port that shows what passes through it."""

    def __init__(self, port: Port, observe: Observer, clock: Clock) -> None:
        self._port = port
        self._observe = observe
        self._clock = clock

    @property
    def char_s(self) -> float:
        return self._port.char_s

    @property
    def opened_at_s(self) -> float:
        return self._port.opened_at_s

    def write(self, data: bytes) -> None:
        self._show("sent", data)
        self._port.write(data)

    def read(self, at_least: int, deadline_s: float, due_s: float = -math.inf) -> bytes:
        return self._show("heard", self._port.read(at_least, deadline_s, due_s))

    def discard(self) -> bytes:
        return self._show("heard", self._port.discard())

    def _show(self, direction: Literal["sent", "heard"], data: bytes) -> bytes:
        if data:
            self._observe(Frame(self._clock.now_utc_s(), direction, data, RAW))
        return data


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
    """Shows frames as lines of text or of JSON, and counts them."""

    def __init__(self, start_utc_s: float, *, as_json: bool, hidden: Collection[bytes]) -> None:
        self._start_utc_s = start_utc_s
        self._as_json = as_json
        self._hidden = tuple(hidden)
        self._counts: Counter[str] = Counter()
        if not as_json:
            start = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(start_utc_s))
            print(f"{'ms':>10}  since {start} UTC", flush=True)

    def __call__(self, frame: Frame) -> None:
        self._counts[f"{frame.direction}: {frame.verdict}"] += 1
        after_ms = (frame.at_utc_s - self._start_utc_s) * 1000
        what = decoded(frame)
        if self._as_json:
            said: dict[str, Any] = {
                "ms": round(after_ms, 1),
                "direction": frame.direction,
                "verdict": frame.verdict,
                "hex": self._hex(frame.data, ""),
                **what,
            }
            print(json.dumps(said), flush=True)
            return
        arrow = "->" if frame.direction == "sent" else "<-"
        text = f"{after_ms:10.1f} {arrow} {_words(what):40} {frame.verdict:14} "
        print(text + self._hex(frame.data, " ").upper(), flush=True)

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

    def _hex(self, data: bytes, between: str) -> str:
        shown = _spaced(data, between)
        for secret in self._hidden:
            shown = shown.replace(_spaced(secret, between), between.join(["**"] * len(secret)))
        return shown


def _spaced(data: bytes, between: str) -> str:
    return data.hex(between) if between else data.hex()


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


def _passwords(config: AgentConfig, meters: Sequence[MeterConfig]) -> set[bytes]:
    """The passwords that may go over the line in clear; raises ConfigError."""
    found = set()
    for meter in meters:
        try:
            password = password_of(config, meter)
        except OSError as error:
            place = config.places.name("meter", config.meters.index(meter), "password_file")
            raise ConfigError(f"{place}: {error}; correct the path or its rights") from error
        if password is not None:
            found.add(password)
    return found


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
