"""Reading the last row of 32 meters' load profiles, with a fresh association for each.

A link cannot be kept between two rounds: meters end it after two minutes of
silence. So a round makes 32 of them. The wire formula says what the bytes take
at 9600 Bd and the meters' reaction of 50 ms; our time is held against it for
the bytes that really went over the line, and beside that against the table
from which the bench's figures come: frames of the default sizes, a password of
8 characters, rows of clock, status and six energies.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.apdu.selection import by_range
from agent.dlms.client import Client
from agent.dlms.driver import DlmsDriver
from agent.dlms.link.frame import client_address, server_address
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.link.settings import LinkSettings
from agent.dlms.load_profile.meter_time import MeterTime
from agent.dlms.load_profile.rows import decode_rows
from agent.dlms.meter_class import load_meter_class
from agent.dlms.security.counters import CounterStore, counter_name
from agent.dlms.security.settings import Keys, Security
from hil.bench.dlms_line import (
    AUTHENTICATION_KEY,
    CLIENT_TITLE,
    ENCRYPTION_KEY,
    METERS,
    PASSWORD,
    CountingPort,
    Kind,
    addresses,
    dlms_line,
)
from hil.bench.figure import Figure
from hil.site.installation import NotReady
from wire.clock import SystemClock

LIMIT: Final = 1.10
TABLE_S: Final = {"lls": 0.570, "gmac": 0.895}
"""One meter with a server address of one byte: 355 or 619 bytes, 4 or 5 turnarounds."""
_PERIOD_S: Final = 900
_BUFFER: Final = Attribute.parse("7/1.0.99.1.0.255/2")
_DEFAULT_SIZES: Final = LinkSettings(max_info=128, window=1, lists=False)
_ROUNDS: Final = 2
"""The quicker one counts: others use the machine too."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round over all meters: its time, and what the formula says of its bytes."""

    took_s: float
    formula_s: float
    bytes_each: float

    @property
    def ratio(self) -> float:
        return self.took_s / self.formula_s


def read_figures() -> Iterator[Figure | str]:
    """`dlms.read_ratio_lls_32`, `dlms.read_ratio_gmac_32`, and what a driver takes in a round."""
    lls = Security("lls", password=PASSWORD)
    with _line("lls") as port:
        yield from _ratio_figures("lls", _quickest(port, lls))
        yield from _driver_figures(port)
    with _line("gmac") as port, _ciphered() as gmac:
        yield from _ratio_figures("gmac", _quickest(port, gmac))


@contextmanager
def _line(kind: Kind) -> Iterator[CountingPort]:
    with tempfile.TemporaryDirectory(prefix="loadscape-bench-") as folder:
        link = Path(folder) / "line"
        with dlms_line(link, kind), CountingPort(str(link)) as port:
            yield port


@contextmanager
def _ciphered() -> Iterator[Security]:
    """Each counter is on the disk before it is used, as in an agent."""
    keys = Keys(ENCRYPTION_KEY, AUTHENTICATION_KEY)
    with tempfile.TemporaryDirectory(prefix="loadscape-bench-") as folder:
        store = CounterStore(Path(folder) / "counters.db")
        counter = store.counter(counter_name(ENCRYPTION_KEY))
        yield Security("hls-gmac", "global", keys=keys, client_title=CLIENT_TITLE, counter=counter)
        store.close()


def _ratio_figures(kind: Kind, best: Round) -> Iterator[Figure | str]:
    name = f"dlms.read_ratio_{kind}_{METERS}"
    each_s, table_s = best.took_s / METERS, TABLE_S[kind]
    yield Figure(name, best.ratio, "x the wire formula", LIMIT)
    yield Figure(f"{name}.of_table", each_s / table_s, "x the table", LIMIT)
    yield Figure(
        f"{name}.ms",
        1000 * each_s,
        f"ms a meter, {best.bytes_each:.0f} bytes",
        peer="formula of these bytes",
        peer_value=1000 * best.formula_s / METERS,
    )


def _driver_figures(port: CountingPort) -> Iterator[Figure]:
    """What the agent's driver takes: agreed sizes, serial number, one row more on either side."""
    meter_class = load_meter_class("idis_residential")
    drivers = {
        address: DlmsDriver.on_port(
            port, meter_class, SystemClock(), server_address=address, password=PASSWORD
        )
        for address in addresses()
    }
    end_utc_s = int(time.time()) // _PERIOD_S * _PERIOD_S

    def read(address: str) -> int:
        return len(drivers[address].profile(end_utc_s, end_utc_s))

    one_round(port, read)  # learns columns, scalers and units, once in a meter's life
    driven = one_round(port, read)
    yield Figure(f"dlms.read_ratio_lls_{METERS}.driver", driven.ratio, "x the wire formula")
    yield Figure(
        f"dlms.read_ratio_lls_{METERS}.driver.ms",
        1000 * driven.took_s / METERS,
        f"ms a meter, {driven.bytes_each:.0f} bytes",
    )


def last_row(port: CountingPort, address: str, security: Security) -> int:
    """Rows read by a range that only the newest row fits: 1."""
    end_utc_s = int(time.time()) // _PERIOD_S * _PERIOD_S
    stamp = MeterTime(60).octets(end_utc_s)
    client = Client(
        HdlcCarrier(
            port,
            _DEFAULT_SIZES,
            client_address=client_address(1),
            server_address=server_address(address),
            name=f"meter {address}",
        ),
        security,
        name=f"meter {address}",
        lists=False,
    )
    with client:
        rows, _ = decode_rows(client.get_data(_BUFFER, by_range(stamp, stamp)))
    return len(rows)


def _quickest(port: CountingPort, security: Security) -> Round:
    def read(address: str) -> int:
        return last_row(port, address, security)

    return min((one_round(port, read) for _ in range(_ROUNDS)), key=lambda done: done.ratio)


def one_round(port: CountingPort, read: Callable[[str], int]) -> Round:
    """Every meter once, one after the other; raises NotReady unless each gave one row."""
    port.reset()
    begun_s = time.monotonic()
    for address in addresses():
        found = read(address)
        if found != 1:
            raise NotReady(f"meter {address} gave {found} rows instead of 1: the figure is void")
    took_s = time.monotonic() - begun_s
    return Round(took_s, port.formula_s, (port.sent + port.heard) / METERS)
