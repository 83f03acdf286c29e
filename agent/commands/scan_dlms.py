"""`scan` of a DLMS line: which server addresses answer, who they are, which classes read there.

The classes are tried with the secrets of the line's own meters, each kind once
and at one address after another: meters of one line mostly share them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from agent.commands.answering import Answering, dlms_answer
from agent.config import AgentConfig, ConfigError, LineConfig, MeterConfig
from agent.dlms.link.mode_e import open_hdlc
from agent.dlms.meter_class import load_meter_class
from agent.dlms.scan import Identity, answers, identity, models
from agent.driver import ReadError
from agent.drivers import build_driver
from agent.drivers_dlms import public_client
from agent.line.port import Port
from agent.line.serial_port import SerialPort
from wire.clock import Clock

_LONGEST_FORM: Final = 4


def scan_dlms(
    config: AgentConfig,
    line: LineConfig,
    port: Port,
    addresses: Iterable[int],
    model: str | None,
    clock: Clock,
    address_bytes: int | None = None,
) -> Iterator[Answering]:
    """Who answers, as found; raises ConfigError, ReadError, PortLost.

    Behind an optical head sits one meter: the scan ends when it is found.
    `address_bytes`: form of an HDLC address, 1, 2 or 4; None is the shortest.
    """
    if model is not None and model not in models():
        raise ConfigError(f"--model {model!r}: expected one of {', '.join(models())}")
    candidates = models() if model is None else (model,)
    mode_e = line.opening == "mode-e" and isinstance(port, SerialPort)
    if mode_e and isinstance(port, SerialPort):
        _wake(line, port)
    wrapper = line.is_tcp and line.framing == "wrapper"
    for number in addresses:
        address = str(number) if wrapper or address_bytes == 1 else f"1/{number}"
        if not wrapper and not answers(port, address, address_bytes):
            continue
        there = MeterConfig(f"{line.name}-{number}", line.name, "", server_address=address)
        who = identity(public_client(line, there, port, address_bytes))
        if who is None:
            if wrapper:
                continue
            who = Identity()
        # Four bytes where two would do are a setting of the meter class: no shipped one has it.
        tried = () if address_bytes == _LONGEST_FORM else candidates
        fits, serial = _fitting(config, line, there, port, tried, clock)
        yield dlms_answer(config, line, address, who, fits, serial, address_bytes)
        if mode_e:
            return


def _wake(line: LineConfig, port: SerialPort) -> None:
    """Opens once, so that every address can be asked at the agreed rate; tells who it is."""
    agreed = open_hdlc(port, name=f"line {line.name}", most_baud=line.baud, parity=line.parity)
    who = agreed.identification
    print(
        f"the head on {line.name} says {who.maker} {who.ident}, {agreed.baud} Bd",
        file=sys.stderr,
    )


def _fitting(
    config: AgentConfig,
    line: LineConfig,
    there: MeterConfig,
    port: Port,
    candidates: tuple[str, ...],
    clock: Clock,
) -> tuple[dict[str, MeterConfig | None], str | None]:
    """Classes that read there, each with the meter whose secrets opened it; the serial number."""
    fits: dict[str, MeterConfig | None] = {}
    serial = None
    for candidate in candidates:
        for lender in _lenders(config, line, candidate):
            asked = replace(
                there,
                model=candidate,
                password_file=None if lender is None else lender.password_file,
                credentials=None if lender is None else lender.credentials,
            )
            try:
                sample = build_driver(config, line, asked, port, clock).sample()
            except (ReadError, ConfigError):
                # Another class, another secret: that is what a scan finds out.
                continue
            fits[candidate] = lender
            serial = serial or sample.serial
            break
    return fits, serial


def _lenders(config: AgentConfig, line: LineConfig, candidate: str) -> Iterator[MeterConfig | None]:
    """The line's meters that have secrets, each kind once; none where none is needed."""
    meter_class = load_meter_class(candidate)
    if meter_class.mechanism == "none" and meter_class.ciphering == "none":
        yield None
        return
    seen = set()
    for meter in config.meters_of(line.name):
        secret = (meter.password_file, meter.credentials)
        if secret != (None, None) and secret not in seen:
            seen.add(secret)
            yield meter
