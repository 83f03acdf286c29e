"""`scan`: who answers on a line, and which shipped models fit.

Only reads. A line belongs to one program at a time, so this needs the line to
itself. On a Modbus line the addresses are units, on a DLMS line physical
addresses below logical address 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from agent.commands import EXIT_OK, EXIT_WRONG
from agent.config import AgentConfig, ConfigError, LineConfig
from agent.drivers import open_line, password_of
from agent.line.port import Port, PortLost
from agent.run import clock_of
from wire.clock import Clock

UNITS = range(1, 33)
_MOST_ADDRESS = {"modbus": 247, "dlms": 16383}


@dataclass(frozen=True, slots=True)
class Answering:
    """One address that answered, and what can be said of it."""

    address: str
    what: str
    models: tuple[str, ...] = ()
    """Shipped models whose values can be read there."""
    serial: str | None = None


def add(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument("line", metavar="LINE", help="the name of a [[line]]")
    parser.add_argument(
        "--addresses",
        type=_address_range,
        metavar="FIRST-LAST",
        help="Modbus units (default 1-32, all are 1-247) or physical DLMS addresses "
        "(default 16-63, all are 1-16383)",
    )
    parser.add_argument(
        "--model", metavar="MODEL", help="try only this DLMS meter class (default: all shipped)"
    )


def run(config: AgentConfig, chosen: argparse.Namespace) -> int:
    """Print who answers, as found; EXIT_WRONG if nobody does."""
    line = next((line for line in config.lines if line.name == chosen.line), None)
    if line is None:
        names = ", ".join(line.name for line in config.lines)
        raise ConfigError(
            f"{config.places.path}: line {chosen.line!r} is not there; lines are: {names}"
        )
    addresses = _addresses(line, chosen.addresses)
    first, last = addresses[0], addresses[-1]
    print(
        f"asking {len(addresses)} addresses on {line.name}: {first}-{last} "
        "(--addresses FIRST-LAST asks others)",
        file=sys.stderr,
    )
    found = []
    try:
        for answer in scan_line(config, line, addresses, chosen.model):
            found.append(answer)
            if not chosen.json:
                print(f"{answer.address:8} {answer.what}", flush=True)
    except PortLost as error:
        print(f"loadscape-agent: {error}", file=sys.stderr)
        return EXIT_WRONG
    if chosen.json:
        answers = [asdict(answer) for answer in found]
        print(json.dumps({"line": line.name, "protocol": line.protocol, "found": answers}))
    elif not found:
        print(f"no answer on {line.name}; check wiring, baud rate and parity")
    return EXIT_OK if found else EXIT_WRONG


def scan_line(
    config: AgentConfig, line: LineConfig, addresses: range, model: str | None
) -> Iterator[Answering]:
    """Who answers on the line, as found. Raises PortLost, ConfigError."""
    clock = clock_of(config)
    port = open_line(line)
    try:
        port.open()
        if line.protocol == "modbus":
            yield from _scan_modbus(port, line, _with_progress(addresses), clock)
        else:
            yield from _scan_dlms(config, line, port, _with_progress(addresses), model, clock)
    finally:
        port.close()


def _scan_modbus(
    port: Port, line: LineConfig, units: Iterable[int], clock: Clock
) -> Iterator[Answering]:
    from agent.modbus.scan import LineSettings, scan

    settings = LineSettings(line.baud, line.parity, line.stopbits)
    for found in scan(lambda _: port, [settings], units, clock=clock):
        fits = ", ".join(found.fits)
        what = f"fits {fits}" if fits else "answers, but fits no shipped model"
        yield Answering(str(found.unit), what, found.fits, found.serial)


def _scan_dlms(
    config: AgentConfig,
    line: LineConfig,
    port: Port,
    addresses: Iterable[int],
    model: str | None,
    clock: Clock,
) -> Iterator[Answering]:
    from agent.dlms.scan import look, models

    if model is not None and model not in models():
        raise ConfigError(f"--model {model!r}: expected one of {', '.join(models())}")
    candidates = models() if model is None else (model,)
    password = _line_password(config, line)
    for physical in addresses:
        found = look(port, f"1/{physical}", candidates, clock, password=password)
        if found is None:
            continue
        serial = f"serial {found.serial}" if found.serial else "tells no serial number"
        if found.fits:
            fits = f"fits {', '.join(found.fits)}"
        elif password is None:
            fits = "needs a password: add one meter of this line with its password_file"
        else:
            fits = "fits no shipped model with the line's password"
        yield Answering(found.address, f"{serial}, {fits}", found.fits, found.serial)


def _line_password(config: AgentConfig, line: LineConfig) -> bytes | None:
    """The password of the line's first meter that has one; the others mostly share it."""
    for meter in config.meters_of(line.name):
        try:
            password = password_of(meter)
        except OSError as error:
            place = config.places.name("meter", config.meters.index(meter), "password_file")
            raise ConfigError(f"{place}: {error}; correct the path or its rights") from error
        if password is not None:
            return password
    return None


def _with_progress(addresses: range) -> Iterator[int]:
    """The addresses; on a terminal each is shown before it is asked (a log wants results)."""
    shown = sys.stderr.isatty()
    for number, address in enumerate(addresses, start=1):
        if shown:
            text = f"\r{address} ({number} of {len(addresses)})  \r"
            print(text, end="", file=sys.stderr, flush=True)
        yield address


def _addresses(line: LineConfig, chosen: range | None) -> range:
    from agent.dlms.scan import PHYSICAL

    if chosen is None:
        return UNITS if line.protocol == "modbus" else PHYSICAL
    most = _MOST_ADDRESS[line.protocol]
    if chosen[-1] > most:
        raise ConfigError(f"--addresses: a {line.protocol} line has addresses 1-{most}")
    return chosen


def _address_range(text: str) -> range:
    first, _, last = text.partition("-")
    try:
        addresses = range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected FIRST-LAST, such as 1-32") from None
    if not addresses or addresses[0] < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected FIRST-LAST from 1, such as 1-32")
    return addresses
