"""`scan`: who answers on a line, which meter it is, and what to write into the configuration.

Only reads. A line belongs to one program at a time, so this needs the line to
itself. On a Modbus line the addresses are units, on a DLMS line physical
addresses below logical address 1, with the TCP wrapper wPorts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from agent.commands import EXIT_OK, EXIT_WRONG
from agent.commands.answering import Answering, meter_table, modbus_answer
from agent.config import AgentConfig, ConfigError, LineConfig
from agent.driver import ReadError
from agent.drivers import open_line
from agent.line.port import Port, PortLost
from agent.line.serial_port import SerialPort
from agent.run import clock_of
from wire.clock import Clock

if TYPE_CHECKING:
    from agent.modbus.gateway import TcpGateway
    from agent.modbus.scan import LineSettings

UNITS: Final = range(1, 33)
_MOST_ADDRESS: Final = {"modbus": 247, "modbus-tcp": 247, "dlms": 16383, "dlms-tcp": 16383}
_BAUDS: Final = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
_PARITIES: Final = ("N", "E", "O")
_MOST_OF_ONE_BYTE: Final = 126
_ABSENT_S: Final = 0.5
"""About what one absent Modbus unit costs with one setting."""


def add(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument("line", metavar="LINE", help="the name of a [[line]]")
    parser.add_argument(
        "--addresses",
        type=_address_range,
        metavar="FIRST-LAST",
        help="Modbus units (default 1-32, all are 1-247) or physical DLMS addresses "
        "(default 16-63, all are 1-16383; wPorts of the TCP wrapper: default 1-16)",
    )
    parser.add_argument(
        "--address-bytes",
        type=int,
        choices=(1, 2, 4),
        metavar="1|2|4",
        help="bytes of an HDLC server address on a DLMS line: some meters hear one form only; "
        "with 1 there is no logical part (default 2, or 4 where an address needs it)",
    )
    parser.add_argument(
        "--bauds",
        type=_bauds,
        metavar="LIST",
        help="baud rates to try on a serial Modbus line, such as 9600,19200 (default: the line's)",
    )
    parser.add_argument(
        "--parities",
        type=_parities,
        metavar="LIST",
        help="parities to try on a serial Modbus line, such as N,E (default: the line's)",
    )
    parser.add_argument(
        "--model", metavar="MODEL", help="try only this DLMS meter class (default: all shipped)"
    )
    parser.add_argument(
        "--toml", action="store_true", help="print [[meter]] tables to paste into the configuration"
    )


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """Print who answers, as found; EXIT_WRONG if nobody does."""
    line = next((line for line in config.lines if line.name == chosen.line), None)
    if line is None:
        names = ", ".join(line.name for line in config.lines)
        raise ConfigError(
            f"{config.places.path}: line {chosen.line!r} is not there; lines are: {names}"
        )
    if chosen.toml and chosen.json:
        raise ConfigError("--toml and --json: expected one of them; leave the other out")
    addresses = _addresses(line, chosen.addresses, chosen.address_bytes)
    settings = _settings(line, chosen.bauds, chosen.parities)
    _announce(line, addresses, settings)
    found = []
    try:
        how = (settings, chosen.model, chosen.address_bytes)
        for answer in scan_line(config, line, addresses, *how):
            found.append(answer)
            if chosen.toml:
                print(meter_table(config, line, answer), flush=True)
            elif not chosen.json:
                print(f"{answer.address:8} {answer.what}", flush=True)
    except (ReadError, PortLost) as error:
        print(f"loadscape-agent: {error}", file=sys.stderr)
        return EXIT_WRONG
    if chosen.json:
        answers = [asdict(answer) for answer in found]
        print(json.dumps({"line": line.name, "protocol": line.protocol, "found": answers}))
    elif not found:
        print(f"no answer on {line.name}; check {_suspects(line)}")
    return EXIT_OK if found else EXIT_WRONG


def scan_line(
    config: AgentConfig,
    line: LineConfig,
    addresses: range,
    settings: Sequence[LineSettings] = (),
    model: str | None = None,
    address_bytes: int | None = None,
) -> Iterator[Answering]:
    """Who answers on the line, as found. Raises PortLost, ConfigError.

    `settings` are tried in turn on a serial Modbus line, instead of its own.
    """
    clock = clock_of(config)
    if line.protocol == "modbus":
        yield from _scan_modbus(config, line, addresses, settings, clock)
        return
    from agent.modbus.gateway import TcpGateway

    port = open_line(line)
    try:
        port.open()
        if not isinstance(port, TcpGateway):
            from agent.commands.scan_dlms import scan_dlms

            found = _with_progress(addresses)
            yield from scan_dlms(config, line, port, found, model, clock, address_bytes)
        else:
            yield from _scan_gateway(config, line, port, _with_progress(addresses), clock)
    finally:
        port.close()


# --- Modbus ----------------------------------------------------------------------------------


def _scan_modbus(
    config: AgentConfig,
    line: LineConfig,
    units: range,
    settings: Sequence[LineSettings],
    clock: Clock,
) -> Iterator[Answering]:
    from agent.modbus.scan import Identified, LineSettings, scan

    own = LineSettings(line.baud, line.parity, line.stopbits)
    opened: list[SerialPort] = []

    def open_port(how: LineSettings) -> Port:
        for before in opened:
            before.close()
        port = open_line(replace(line, baud=how.baud, parity=how.parity, stopbits=how.stopbits))
        assert isinstance(port, SerialPort)
        opened[:] = [port]
        port.open()
        return port

    def asking(unit: int, how: LineSettings) -> None:
        _show_progress(f"unit {unit} at {how}")

    try:
        for found in scan(open_port, settings or (own,), units, clock=clock, asking=asking):
            how = None if found.settings == own else str(found.settings)
            who = Identified(found.model, found.fits, found.serial)
            yield modbus_answer(config, line, found.unit, who, how)
    finally:
        for port in opened:
            port.close()


def _scan_gateway(
    config: AgentConfig,
    line: LineConfig,
    gateway: TcpGateway,
    units: Iterable[int],
    clock: Clock,
) -> Iterator[Answering]:
    """The units behind a gateway; a gateway mostly says itself which are not there."""
    from agent.modbus.scan import identify
    from agent.modbus.tcp import TcpExchange
    from agent.modbus.transaction import READ_HOLDING, READ_INPUT, ReadRequest

    for unit in units:
        exchange = TcpExchange(gateway, unit, clock=clock)
        for function in (READ_HOLDING, READ_INPUT):
            try:
                exchange.ask(ReadRequest(unit, function, 0, 2), 1)
            except ReadError:
                continue
            yield modbus_answer(config, line, unit, identify(exchange, unit))
            break


# --- words and progress ----------------------------------------------------------------------


def _announce(line: LineConfig, addresses: range, settings: Sequence[LineSettings]) -> None:
    text = (
        f"asking {len(addresses)} addresses on {line.name}: {addresses[0]}-{addresses[-1]} "
        "(--addresses FIRST-LAST asks others)"
    )
    if len(settings) > 1:
        longest_s = len(addresses) * len(settings) * _ABSENT_S
        text += f", with {len(settings)} settings, for {longest_s:.0f} s at most"
    print(text, file=sys.stderr)


def _with_progress(addresses: range) -> Iterator[int]:
    """The addresses; on a terminal each is shown before it is asked (a log wants results)."""
    for number, address in enumerate(addresses, start=1):
        _show_progress(f"{address} ({number} of {len(addresses)})")
        yield address


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:40}\r", end="", file=sys.stderr, flush=True)


def _suspects(line: LineConfig) -> str:
    if line.protocol == "modbus-tcp":
        return "the gateway's settings, and wiring, baud rate and parity behind it"
    if line.protocol == "modbus":
        return "wiring, or try --bauds 9600,19200 --parities N,E"
    return "wiring, baud rate and parity"


def _settings(
    line: LineConfig, bauds: Sequence[int] | None, parities: Sequence[Any] | None
) -> tuple[LineSettings, ...]:
    """The settings to try, the line's own first where they are among them."""
    from agent.modbus.scan import LineSettings

    for option, given in (("--bauds", bauds), ("--parities", parities)):
        if given and line.protocol != "modbus":
            raise ConfigError(
                f"{option}: {line.name} is a {line.protocol} line, only a serial Modbus line is "
                "tried with several; leave it out"
            )
    tried = [
        LineSettings(baud, parity, line.stopbits)
        for baud, parity in product(bauds or (line.baud,), parities or (line.parity,))
    ]
    own = LineSettings(line.baud, line.parity, line.stopbits)
    return tuple(sorted(tried, key=lambda how: how != own))


def _addresses(line: LineConfig, chosen: range | None, address_bytes: int | None) -> range:
    from agent.dlms.scan import PHYSICAL, WRAPPER_PORTS

    hdlc = line.is_dlms and not (line.is_tcp and line.framing == "wrapper")
    if address_bytes is not None and not hdlc:
        raise ConfigError(
            f"--address-bytes: {line.name} is no DLMS line with HDLC, only that has several forms "
            "of an address; leave it out"
        )
    if chosen is None and line.is_dlms:
        return WRAPPER_PORTS if line.is_tcp and line.framing == "wrapper" else PHYSICAL
    if chosen is None:
        return UNITS
    most = _MOST_ADDRESS[line.protocol] if address_bytes != 1 else _MOST_OF_ONE_BYTE
    if chosen[-1] > most:
        raise ConfigError(f"--addresses: a {line.protocol} line has addresses 1-{most}")
    return chosen


def _bauds(text: str) -> tuple[int, ...]:
    try:
        bauds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        bauds = ()
    if not bauds or not set(bauds) <= set(_BAUDS):
        known = ",".join(map(str, _BAUDS))
        raise argparse.ArgumentTypeError(f"{text!r}: expected some of {known}")
    return bauds


def _parities(text: str) -> tuple[str, ...]:
    parities = tuple(dict.fromkeys(text.upper().split(",")))
    if not set(parities) <= set(_PARITIES):
        raise argparse.ArgumentTypeError(f"{text!r}: expected some of {','.join(_PARITIES)}")
    return parities


def _address_range(text: str) -> range:
    first, _, last = text.partition("-")
    try:
        addresses = range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected FIRST-LAST, such as 1-32") from None
    if not addresses or addresses[0] < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected FIRST-LAST from 1, such as 1-32")
    return addresses
