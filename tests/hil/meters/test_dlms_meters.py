"""The simulated DLMS meters, asked byte by byte by frames typed here; no code of the agent."""

from __future__ import annotations

import pytest

from agent.dlms import axdr
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.hdlc import Ear, Heard, build, frame_check
from hil.meters.dlms.meter import DlmsMeter
from hil.meters.shown import Gauges, Recorded, Registers

NOW_UTC_S = 1_763_820_003
LAST_END_UTC_S = 1_763_820_000
METER = b"\x02\x23"
READER = b"\x03"
PUBLIC = b"\x21"
AARQ = bytes.fromhex(
    "603aa109060760857405080101 8a020780 8b0760857405080201 ac0b8009".replace(" ", "")
    + b"loadscape".hex()
    + "be10040e01000000065f1f040000121404b0"
)
AARQ_PUBLIC = bytes.fromhex("601da109060760857405080101be10040e01000000065f1f0400001e1dffff")


class Face:
    serial = "LS0012345"

    def registers(self, at_utc_s: float) -> Registers:
        return Registers(1000, 200, 30)

    def gauges(self, at_utc_s: float) -> Gauges:
        return Gauges(231.24, 4.567, -1000.0, 50.0)

    def recorded(self, first: int, last: int) -> list[Recorded]:
        return [
            Recorded(end, end // 900, 2, 3, 2300, 456)
            for end in range(first + -first % 900, last + 1, 900)
        ]


class Clock:
    def now_utc_s(self) -> float:
        return NOW_UTC_S


class Reader:
    """Numbers frames and joins segments as any client must."""

    def __init__(self, bus: DlmsBus, client: bytes = READER) -> None:
        self.bus = bus
        self.client = client
        self.sent = self.received = 0

    def frames(self, control: int, payload: bytes = b"", more: bool = False) -> list[Heard]:
        answers = self.bus.receive(build(METER, self.client, control, payload, more))
        return [heard for answer in answers for heard in Ear().hear(answer.data)]

    def connect(self, parameters: str = "", aarq: bytes = AARQ) -> bytes:
        (ua,) = self.frames(0x93, bytes.fromhex(parameters.replace(" ", "")))
        assert ua.control == 0x73
        return self.ask(aarq)

    def ask(self, apdu: bytes) -> bytes:
        heard = self.frames(self.received << 5 | 0x10 | self.sent << 1, b"\xe6\xe6\x00" + apdu)
        self.sent = (self.sent + 1) & 7
        whole = b""
        while True:
            for frame in heard:
                assert frame.control >> 1 & 7 == self.received
                self.received = (self.received + 1) & 7
                whole += frame.payload
            if not heard[-1].more:
                assert whole[:3] == b"\xe6\xe7\x00"
                return whole[3:]
            heard = self.frames(self.received << 5 | 0x11)


@pytest.fixture
def meter() -> DlmsMeter:
    return DlmsMeter(Face())


@pytest.fixture
def reader(meter: DlmsMeter) -> Reader:
    return Reader(DlmsBus({"1/17": meter}, Clock(), reaction_s=0.02))


def get(descriptor: str, selection: bytes = b"") -> bytes:
    tail = b"\x01" + selection if selection else b"\x00"
    return bytes.fromhex("c00141" + descriptor.replace(" ", "")) + tail


def test_the_frame_check_has_the_published_value():
    assert frame_check(b"123456789") == bytes.fromhex("6e90")


def test_the_published_snrm_is_answered_with_ua(meter):
    bus = DlmsBus({"1/17": meter}, Clock(), reaction_s=0.02)
    (answer,) = bus.receive(bytes.fromhex("7ea00802232193bd647e"))
    assert answer.delay_s == 0.02
    (ua,) = Ear().hear(answer.data)
    assert (ua.to, ua.sender, ua.control) == (PUBLIC, METER, 0x73)


def test_sizes_are_negotiated_down_to_what_both_can(meter):
    meter.longest_info = 512
    reader = Reader(DlmsBus({"1/17": meter}, Clock()))
    (ua,) = reader.frames(
        0x93, bytes.fromhex("8180140502 07ee 0602 07ee 070400000001 080400000007")
    )
    assert ua.payload.hex() == "81801405020200060202000704000000070804" + "00000001"


def test_another_address_is_not_answered(reader):
    assert reader.bus.receive(build(b"\x02\x25", READER, 0x93)) == []


def test_nothing_is_readable_before_an_association(reader):
    reader.frames(0x93)
    assert reader.ask(get("0001 0000600100ff 02")) == b"\xd8\x01\x01"


@pytest.mark.parametrize(
    ("aarq", "result"),
    [
        (AARQ, "a203020100a305a103020100"),
        (AARQ.replace(b"scape", b"scrap"), "a203020101a305a10302010d"),
    ],
)
def test_the_password_decides(reader, aarq, result):
    assert result in reader.connect(aarq=aarq).hex()


def test_the_public_client_sees_the_serial_number_and_no_register(meter):
    reader = Reader(DlmsBus({"1/17": meter}, Clock()), PUBLIC)
    reader.connect(aarq=AARQ_PUBLIC)
    assert reader.ask(get("0001 0000600100ff 02"))[4:] == b"\x09\x09LS0012345"
    assert reader.ask(get("0003 0100010800ff 02")) == bytes.fromhex("c401410103")


@pytest.mark.parametrize(
    ("descriptor", "value"),
    [
        ("0003 0100010800ff 02", "06000003e8"),
        ("0003 0100010800ff 03", "02020f00161e"),
        ("0003 0100020800ff 02", "06000000c8"),
        ("0003 0100030800ff 03", "02020f001620"),
        ("0003 0100200700ff 02", "120908"),
        ("0003 0100200700ff 03", "02020fff1623"),
        ("0003 01001f0700ff 02", "06000001c9"),
        ("0003 0100020700ff 02", "06000003e8"),
        ("0007 0100630100ff 04", "0600000384"),
        ("0007 0100630100ff 07", "0600001680"),
        ("0007 0100630100ff 08", "0600001680"),
        ("0001 00002a0000ff 02", "0910" + b"LSC1000000000001".hex()),
        ("0008 0000010000ff 02", "090c07e90b1606 0f00030 0ffc400".replace(" ", "")),
    ],
)
def test_objects_show_what_the_face_shows(reader, descriptor, value):
    reader.connect()
    assert reader.ask(get(descriptor)).hex() == "c4014100" + value


def test_an_object_that_is_not_there_is_undefined(reader):
    reader.connect()
    assert reader.ask(get("0003 0100630800ff 02")) == bytes.fromhex("c401410104")


def rows_of(answer: bytes) -> list[tuple]:
    assert answer[:4] == bytes.fromhex("c4014100")
    return axdr.decode_whole(answer[4:])


def by_range(first: bytes, last: bytes) -> bytes:
    clock = bytes.fromhex("0204120008090600000 10000ff0f02120000".replace(" ", ""))
    return b"\x01\x02\x04" + clock + axdr.octets(first) + axdr.octets(last) + b"\x01\x00"


def test_a_range_without_deviation_is_in_the_meters_own_time(reader):
    reader.connect("818014 050207ee 060207ee 070400000001 080400000007")
    first = bytes.fromhex("07e90b16ff0e1e0000800000")  # 14:30 at the meter, 13:30 UTC
    last = bytes.fromhex("07e90b16ff0f000000ffc400")  # 15:00, UTC+1
    rows = rows_of(reader.ask(get("0007 0100630100ff 02", by_range(first, last))))
    assert [row[0].hex() for row in rows] == [
        "07e90b16060e1e0000ffc400",
        "07e90b16060e2d0000ffc400",
        "07e90b16060f000000ffc400",
    ]
    assert rows[-1][1:] == (0, LAST_END_UTC_S // 900, 2, 3, 2300, 456)


def test_entries_count_from_the_oldest_and_zero_is_the_newest(reader):
    reader.connect("818014 050207ee 060207ee 070400000001 080400000007")
    newest = bytes.fromhex("02 0204 0600001680 0600000000 120001 120000".replace(" ", ""))
    (row,) = rows_of(reader.ask(get("0007 0100630100ff 02", newest)))
    assert row[2] == LAST_END_UTC_S // 900
    oldest = bytes.fromhex("02 0204 0600000001 0600000001 120001 120000".replace(" ", ""))
    (row,) = rows_of(reader.ask(get("0007 0100630100ff 02", oldest)))
    assert row[2] == LAST_END_UTC_S // 900 - 60 * 96 + 1


def test_a_long_answer_comes_in_blocks(meter):
    meter.max_pdu = 64
    reader = Reader(DlmsBus({"1/17": meter}, Clock()))
    reader.connect()
    answer = reader.ask(get("0007 0100630100ff 03"))
    value = b""
    block = 1
    while True:
        assert answer[:3] == bytes.fromhex("c40241")
        assert len(answer) <= 64
        assert answer[4:8] == block.to_bytes(4, "big")
        size, at = axdr.read_length(answer, 9)
        value += answer[at : at + size]
        if answer[3]:
            break
        answer = reader.ask(bytes.fromhex("c00241") + block.to_bytes(4, "big"))
        block += 1
    assert len(axdr.decode_whole(value)) == 7
    assert reader.ask(bytes.fromhex("c0024100000009"))[8:] == bytes([1, 19])


def test_a_lost_answer_is_sent_again_when_the_reader_polls(reader):
    reader.connect()
    control = reader.received << 5 | 0x10 | reader.sent << 1
    first = reader.frames(control, b"\xe6\xe6\x00" + get("0001 0000600100ff 02"))
    polled = reader.frames(reader.received << 5 | 0x11)
    repeated = reader.frames(control, b"\xe6\xe6\x00" + get("0001 0000600100ff 02"))
    assert first == polled == repeated


def test_a_frame_out_of_sequence_is_rejected(reader):
    reader.connect()
    (answer,) = reader.frames(0x10 | 5 << 1, b"\xe6\xe6\x00" + get("0001 0000600100ff 02"))
    assert answer.control == 0x97


def test_disc_ends_the_link_and_dm_says_there_is_none(reader):
    reader.connect()
    assert [heard.control for heard in reader.frames(0x53)] == [0x73]
    assert [heard.control for heard in reader.frames(0x53)] == [0x1F]
    assert [heard.control for heard in reader.frames(0x11)] == [0x1F]


def test_reads_of_energy_registers_are_observed(meter):
    seen: list[tuple[str, float, Registers]] = []
    bus = DlmsBus({"1/17": meter}, Clock(), on_read=lambda *read: seen.append(read))
    reader = Reader(bus)
    reader.connect()
    reader.ask(get("0003 0100200700ff 02"))
    assert seen == []
    reader.ask(get("0003 0100010800ff 02"))
    assert seen == [("LS0012345", NOW_UTC_S, Registers(1000, 200, 30))]


def test_bytes_may_arrive_one_by_one(reader):
    answers = []
    for byte in b"noise~" + build(METER, READER, 0x93):
        answers += reader.bus.receive(bytes([byte]))
    assert len(answers) == 1
