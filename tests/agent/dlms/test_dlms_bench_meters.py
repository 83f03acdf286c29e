"""The agent's client against meters that know nothing of it: every mechanism, cipher and quirk."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.apdu.attribute import Attribute, Method
from agent.dlms.client import Client, read_counter
from agent.dlms.errors import (
    AccessRefused,
    AssociationRefused,
    CounterBehind,
    DlmsError,
    NoAnswer,
)
from agent.dlms.link.frame import client_address, server_address
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.link.settings import LinkSettings
from agent.dlms.security.settings import Keys, Security
from hil.fuzz.seeds import Wire
from hil.meters.climbing import Climbing
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.dlms.quirks import QUIRKS
from hil.meters.dlms.security import MeterSecurity

NOW_UTC_S = 1_763_820_003
TITLE = b"LSA\x00\x00\x00\x00\x07"
ADDRESS = "1/17"
SERIAL = Attribute.parse("1/0.0.96.1.0.255/2")
IMPORT = Attribute.parse("3/1.0.1.8.0.255/2")
COLUMNS = Attribute.parse("7/1.0.99.1.0.255/3")
TEXT = Attribute.parse("1/0.0.96.13.0.255/2")
CLOCK = Attribute.parse("8/0.0.1.0.0.255/2")
COUNTER = Attribute.parse("1/0.0.43.1.0.255/2")
SHIFT_TIME = Method(CLOCK.class_id, CLOCK.name, 6)
KEYS = {
    0: Keys(bytes(range(16)), bytes(range(16, 32))),
    2: Keys(bytes(range(32)), bytes(range(32, 64))),
}


class StoppedClock:
    def now_utc_s(self) -> float:
        return NOW_UTC_S


class Counter:
    def __init__(self, above: int = 0) -> None:
        self.last = above

    def next(self) -> int:
        self.last += 1
        return self.last

    def raise_above(self, value: int) -> None:
        self.last = max(self.last, value)


def meter_with(
    mechanism: str = "hls-gmac", ciphering: str = "global", suite: int = 0, **habits: object
) -> DlmsMeter:
    keys = KEYS[suite]
    security = MeterSecurity(keys.encryption, keys.authentication, mechanism, ciphering, suite)
    return DlmsMeter(Climbing(), security=security, settable=True, **habits)


def security_with(
    mechanism: str = "hls-gmac", ciphering: str = "global", suite: int = 0, **changes: object
) -> Security:
    fields = {"keys": KEYS[suite], "client_title": TITLE, "counter": Counter()} | changes
    password = b"loadscape" if mechanism == "lls" else None
    return Security(mechanism, ciphering, suite, password, **fields)


def carrier_to(meter: DlmsMeter, sap: int = 1) -> HdlcCarrier:
    return HdlcCarrier(
        Wire(DlmsBus({ADDRESS: meter}, StoppedClock())),
        LinkSettings(gap_s=0.0, response_s=0.02, exchange_s=0.2, window=3),
        client_address=client_address(sap),
        server_address=server_address(ADDRESS),
        name="meter",
    )


def client_of(meter: DlmsMeter, security: Security, **options: object) -> Client:
    return Client(carrier_to(meter), security, name="meter", **options)


def shown_import_wh() -> int:
    return Climbing().registers(NOW_UTC_S).import_wh


WAYS = [
    way
    for way in itertools.product(
        ("none", "lls", "hls-gmac"), ("none", "global", "dedicated", "general-global"), (0, 2)
    )
    if way != ("none", "none", 2)
]


@pytest.mark.parametrize(("mechanism", "ciphering", "suite"), WAYS)
@pytest.mark.parametrize("general_blocks", [False, True])
def test_each_way_to_be_secure_reads_writes_and_acts(mechanism, ciphering, suite, general_blocks):
    meter = meter_with(
        mechanism,
        ciphering,
        suite,
        general_blocks=general_blocks,
        max_pdu=150,
        max_request=128,
        longest_info=64,
        client_window=3,
    )
    security = security_with(mechanism, ciphering, suite)
    text = bytes(range(256)) * 3
    for _ in range(2):
        with client_of(meter, security, general_blocks=general_blocks, release=True) as client:
            assert client.get(SERIAL) == b"LS0000001"
            assert client.get_many([IMPORT, SERIAL]) == [shown_import_wh(), b"LS0000001"]
            assert len(axdr.decode_whole(client.get_data(COLUMNS))) == 7
            client.set(TEXT, axdr.octets(text))
            assert client.get(TEXT) == text
            before_s = meter.clock.shown_s(NOW_UTC_S)
            assert client.act(SHIFT_TIME, axdr.number(16, -7)) is None
            assert meter.clock.shown_s(NOW_UTC_S) == before_s - 7
            with pytest.raises(AccessRefused, match="object-undefined"):
                client.get(Attribute.parse("3/9.9.9.9.9.255/2"))
            assert client.get(SERIAL) == b"LS0000001"


@pytest.mark.parametrize("ciphering", ["global", "dedicated", "general-global"])
@pytest.mark.parametrize("wrong", ["encryption", "authentication", "both exchanged"])
def test_wrong_keys_are_a_typed_error_and_the_link_is_free_afterwards(ciphering, wrong):
    meter = meter_with(ciphering=ciphering, deaf_to_others=True)
    right = KEYS[0]
    keys = {
        "encryption": Keys(bytes(16), right.authentication),
        "authentication": Keys(right.encryption, bytes(16)),
    }.get(wrong, Keys(right.authentication, right.encryption))
    carrier = carrier_to(meter)
    with (
        pytest.raises((CounterBehind, AssociationRefused)),
        Client(carrier, security_with(ciphering=ciphering, keys=keys), name="meter"),
    ):
        pass
    with client_of(meter, security_with(ciphering=ciphering)) as client:
        assert client.get(SERIAL) == b"LS0000001"


def test_a_proof_by_another_key_is_refused_even_without_ciphering():
    meter = meter_with(ciphering="none")
    keys = Keys(KEYS[0].encryption, bytes(16))
    with (
        pytest.raises(AssociationRefused, match="proof"),
        client_of(meter, security_with(ciphering="none", keys=keys)),
    ):
        pass


@pytest.mark.parametrize("demanded", ["global", "dedicated", "general-global"])
def test_a_client_that_ciphers_otherwise_is_refused(demanded):
    for ciphering in {"global", "dedicated", "general-global"} - {demanded}:
        meter = meter_with(ciphering=demanded)
        with (
            pytest.raises(CounterBehind),
            client_of(meter, security_with(ciphering=ciphering)) as client,
        ):
            client.get(SERIAL)


@pytest.mark.parametrize(
    ("quirks", "error"),
    [
        ((), CounterBehind),
        (("counter error as deciphering error",), CounterBehind),
        (("silent to low counters",), NoAnswer),
    ],
)
def test_a_counter_that_the_meter_has_seen_is_read_as_the_public_client_and_passed(quirks, error):
    meter = meter_with(quirks=frozenset(quirks))
    meter.security.heard = 5_000
    counter = Counter(4_000)
    security = security_with(counter=counter)
    with pytest.raises(error), client_of(meter, security):
        pass
    seen = read_counter(Client(carrier_to(meter, sap=16), Security(), name="meter"), COUNTER)
    assert seen == 5_000
    counter.raise_above(seen)
    with client_of(meter, security) as client:
        assert client.get(SERIAL) == b"LS0000001"


def test_every_request_has_a_counter_of_its_own_that_rises():
    meter = meter_with()
    counter = Counter()
    for _ in range(3):
        before = counter.last
        with client_of(meter, security_with(counter=counter)) as client:
            client.get(SERIAL)
        # AARQ, proof, its request, GET.
        assert counter.last == before + 4
        assert meter.security.heard == counter.last


QUIETLY = sorted(
    name
    for name in QUIRKS
    if name not in ("range refused", "range empty", "range ignored", "silent to low counters")
)


@settings(max_examples=400, deadline=None)
@given(
    way=st.sampled_from(WAYS),
    quirks=st.sets(st.sampled_from(QUIETLY)),
    lists=st.booleans(),
    general_blocks=st.booleans(),
    max_pdu=st.integers(80, 400),
    longest_info=st.integers(32, 128),
    windows=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    text=st.binary(max_size=700),
)
def test_whatever_sizes_and_quirks_what_is_read_is_what_was_written(
    way, quirks, lists, general_blocks, max_pdu, longest_info, windows, text
):
    meter = meter_with(
        *way,
        quirks=frozenset(quirks),
        lists=lists,
        general_blocks=general_blocks,
        max_pdu=max_pdu,
        max_request=max_pdu,
        longest_info=longest_info,
        window=windows[0],
        client_window=windows[1],
    )
    with client_of(meter, security_with(*way), general_blocks=True, release=True) as client:
        client.set(TEXT, axdr.octets(text))
        assert client.get(TEXT) == text
        assert client.get_many([SERIAL, IMPORT]) == [b"LS0000001", shown_import_wh()]
    with client_of(meter, security_with(*way, counter=Counter(1_000))) as client:
        assert client.get(TEXT) == text


class Lossy(Wire):
    """Loses or doubles a whole transmission now and then, by number. Time passes in vain reads."""

    def __init__(self, bus: DlmsBus, faults: dict[int, str]) -> None:
        super().__init__(bus)
        self._faults = faults
        self._number = 0
        self.now_s = 0.0

    def read(self, at_least: int, deadline_s: float, due_s: float = 0.0) -> bytes:
        if not self._waiting:
            self.now_s = max(self.now_s, deadline_s)
        return super().read(at_least, deadline_s, due_s)

    def write(self, data: bytes) -> None:
        self._number += 1
        fault = self._faults.get(self._number, "")
        if fault == "request lost":
            return
        waiting = self._waiting
        super().write(data)
        if fault == "answer lost":
            self._waiting = waiting
        if fault == "answer doubled":
            self._waiting += self._waiting[len(waiting) :]


@settings(max_examples=300, deadline=None)
@given(
    faults=st.dictionaries(
        st.integers(1, 60),
        st.sampled_from(["request lost", "answer lost", "answer doubled"]),
        max_size=6,
    ),
    way=st.sampled_from(WAYS),
    general_blocks=st.booleans(),
    text=st.binary(min_size=200, max_size=400),
)
def test_what_a_line_loses_is_repeated_or_told_and_never_wrong(faults, way, general_blocks, text):
    meter = meter_with(*way, general_blocks=general_blocks, max_pdu=128, longest_info=48)
    meter.customer_text = text
    line = Lossy(DlmsBus({ADDRESS: meter}, StoppedClock()), faults)
    carrier = HdlcCarrier(
        line,
        LinkSettings(gap_s=0.0, exchange_s=30.0),
        client_address=client_address(1),
        server_address=server_address(ADDRESS),
        name="meter",
        now_s=lambda: line.now_s,
        sleep=lambda _: None,
    )
    client = Client(carrier, security_with(*way), name="meter", general_blocks=True)
    try:
        with client:
            assert client.get(TEXT) == text
            assert client.get(SERIAL) == b"LS0000001"
    except DlmsError:
        if len(faults) < 2:  # one loss is repeated
            raise


def test_a_link_that_was_silent_too_long_is_gone_and_comes_anew():
    now_s = [0.0]
    meter = DlmsMeter(Climbing())
    bus = DlmsBus({ADDRESS: meter}, StoppedClock(), now_s=lambda: now_s[0])
    carrier = HdlcCarrier(
        Wire(bus),
        LinkSettings(gap_s=0.0, response_s=0.02),
        client_address=client_address(1),
        server_address=server_address(ADDRESS),
        name="meter",
    )
    security = Security("lls", password=b"loadscape")
    with Client(carrier, security, name="meter") as client:
        assert client.get(SERIAL) == b"LS0000001"
        now_s[0] += meter.inactivity_s + 1
        with pytest.raises(DlmsError, match="DM"):
            client.get(SERIAL)
    with Client(carrier, security, name="meter") as client:
        assert client.get(SERIAL) == b"LS0000001"


@pytest.mark.parametrize(
    "make",
    [
        lambda: DlmsMeter(Climbing(), quirks=frozenset({"sulks"})),
        lambda: MeterSecurity(bytes(16), bytes(16), suite=2),
        lambda: MeterSecurity(bytes(16), bytes(16), title=b"short"),
    ],
)
def test_a_meter_that_cannot_be_is_refused(make: Callable[[], object]):
    with pytest.raises(ValueError, match=r"quirk|expected"):
        make()
