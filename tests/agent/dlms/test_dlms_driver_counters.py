"""A driver whose invocation counter is behind its meter's: said by the meter, or to be guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.dlms.driver import DlmsDriver
from agent.dlms.errors import AssociationSilent, CounterImplausible, NoAnswer
from agent.dlms.link.carrier import Carrier
from agent.dlms.link.frame import client_address, server_address
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.meter_class import load_meter_class
from agent.dlms.security.counters import FARTHEST_JUMP, CounterStore
from agent.dlms.security.settings import InvocationCounter, Keys, Security
from hil.fuzz.seeds import Wire
from hil.meters.climbing import Climbing
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.dlms.security import MeterSecurity

NOW_UTC_S = 1_763_820_003
KEYS = Keys(bytes(range(16)), bytes(range(16, 32)))
ADDRESS = "1/17"
SILENT = frozenset({"silent to low counters"})


class StoppedClock:
    def now_utc_s(self) -> float:
        return NOW_UTC_S

    def real_s_until(self, utc_s: float) -> float:
        return utc_s - NOW_UTC_S


class Behind:
    """A ciphering meter and its driver; notes which clients made a link."""

    def __init__(
        self,
        counter: InvocationCounter,
        heard: int,
        quirks: frozenset[str] = frozenset(),
        change: Callable[[Carrier], Carrier] = lambda carrier: carrier,
    ) -> None:
        """`heard`: the counter that the meter has seen; `change` what the link is really like."""
        self.clients: list[int] = []
        self.meter = DlmsMeter(
            Climbing(),
            security=MeterSecurity(KEYS.encryption, KEYS.authentication),
            quirks=quirks,
        )
        assert self.meter.security is not None
        self.meter.security.heard = heard
        meter_class = load_meter_class("idis_residential_gmac")
        link = dataclasses.replace(meter_class.link, gap_s=0.0, response_s=0.02, exchange_s=0.2)

        def carrier(client_sap: int) -> Carrier:
            self.clients.append(client_sap)
            return change(
                HdlcCarrier(
                    Wire(DlmsBus({ADDRESS: self.meter}, StoppedClock())),
                    link,
                    client_address=client_address(client_sap),
                    server_address=server_address(ADDRESS),
                    name="meter 1/17",
                )
            )

        self.driver = DlmsDriver(
            carrier,
            dataclasses.replace(meter_class, link=link),
            StoppedClock(),
            security=Security(
                "hls-gmac", "global", keys=KEYS, client_title=b"LSC\0\0\0\0\1", counter=counter
            ),
            name="meter 1/17",
        )


def a_counter(folder: Path) -> InvocationCounter:
    counter = CounterStore(folder / "counters.db").counter("k")
    counter.next()
    return counter


@pytest.mark.parametrize("quirks", [frozenset(), SILENT])
def test_a_meter_with_a_higher_counter_is_read_whether_it_says_so_or_not(
    tmp_path: Path, quirks: frozenset[str]
) -> None:
    counter = a_counter(tmp_path)
    there = Behind(counter, 50_000, quirks)
    assert there.driver.sample().serial == Climbing().serial
    assert there.driver.sample().serial == Climbing().serial
    assert there.clients == [1, 16, 1, 1]
    assert counter.next() > 50_000


@pytest.mark.parametrize("quirks", [frozenset(), SILENT])
def test_a_counter_too_far_above_ours_is_not_believed(
    tmp_path: Path, quirks: frozenset[str]
) -> None:
    counter = a_counter(tmp_path)
    before = counter.next()
    with pytest.raises(CounterImplausible, match="it says 2000000000"):
        Behind(counter, 2_000_000_000, quirks).driver.sample()
    assert before < counter.next() < before + FARTHEST_JUMP


class Deaf:
    """A link that comes up, if it does, and carries nothing."""

    longest_answer = 1 << 20

    def __init__(self, *, dead: bool) -> None:
        self._dead = dead

    def open(self) -> None:
        if self._dead:
            raise NoAnswer("meter 1/17: expected UA")

    def close(self) -> None:
        pass

    def more(self, what: str) -> bytes:
        raise AssertionError(f"nothing follows {what}")

    def request(self, apdu: bytes, what: str, *, tries: int | None = None) -> bytes:
        raise NoAnswer(f"meter 1/17: no answer to {what}")


def test_a_dead_meter_is_not_asked_for_its_counter(tmp_path: Path) -> None:
    there = Behind(a_counter(tmp_path), 0, change=lambda carrier: Deaf(dead=True))
    with pytest.raises(NoAnswer, match="expected UA"):
        there.driver.sample()
    assert there.clients == [1]


def test_a_meter_that_stays_silent_has_its_counter_asked_for_now_and_then(tmp_path: Path) -> None:
    there = Behind(a_counter(tmp_path), 0, change=lambda carrier: Deaf(dead=False))
    for _ in range(33):
        with pytest.raises(AssociationSilent, match=r"meter 1/17: no answer to AARQ"):
            there.driver.sample()
    assert there.clients.count(16) == 3
    assert there.clients.count(1) == 33


def test_a_meter_that_answered_again_has_its_counter_asked_for_when_it_is_silent_next(
    tmp_path: Path,
) -> None:
    silent = False
    there = Behind(
        a_counter(tmp_path),
        0,
        change=lambda carrier: Deaf(dead=False) if silent else carrier,
    )
    for silent in (True, False, True):
        if silent:
            with pytest.raises(AssociationSilent):
                there.driver.sample()
        else:
            there.driver.sample()
    assert there.clients == [1, 16, 1, 1, 16]
