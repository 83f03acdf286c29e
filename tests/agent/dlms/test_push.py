"""What meters say by themselves: lists, segments, blocks and ciphering, whole and damaged."""

from __future__ import annotations

import calendar
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dlms import axdr
from agent.dlms.constants import Tag, obis
from agent.dlms.link.frame import UI, frame
from agent.dlms.meter_class import MeterClassError
from agent.dlms.push import PushedReading, PushListener, Unread, listen
from agent.dlms.push_class import PUSH_FOLDER, load_push_class, push_classes
from agent.dlms.security.settings import Keys
from agent.driver import Sample
from wire.quality import Quality

FOLDER = os.environ.get("LOADSCAPE_VECTORS")
ALL = [load_push_class(name) for name in push_classes()]
KAIFA_STAMP = bytes.fromhex("07e1090f05052128ff800000")


def utc_s(*parts: int) -> int:
    return calendar.timegm(parts)


CAPTURES: dict[str, tuple[str, tuple[int, str | None, dict[str, int]]]] = {
    "push-aidon-3phase": (
        "aidon_3phase",
        (utc_s(2019, 12, 16, 6, 59, 40), None, {
            "import_wh": 10049926, "export_wh": 8, "import_varh": 6614347,
            "power_w": 1122, "voltage_dv": 2307, "current_ca": 0,
        }),
    ),
    "push-kaifa-ma304": (
        "kaifa_ma304",
        (utc_s(2017, 9, 15, 4, 33, 40), "6970631401753985", {
            "power_w": 948, "voltage_dv": 2385, "current_ca": 142,
        }),
    ),
    "push-iskra-am550-segmented": (
        "iskra_am550",
        (utc_s(2023, 4, 1, 19, 32, 35), "84895126", {
            "import_wh": 261927, "export_wh": 63832,
            "power_w": 182, "voltage_dv": 2364, "current_ca": 63,
        }),
    ),
    "push-kamstrup-omnipower-enc": (
        "kamstrup_omnipower",
        (utc_s(2026, 3, 12, 14, 24, 30), "12343400", {
            "import_wh": 63074980, "export_wh": 0, "import_varh": 3263600,
            "power_w": 1083, "voltage_dv": 2220, "current_ca": 57,
        }),
    ),
    "push-lg-e450-enc-gbt": (
        "lg_e450",
        (utc_s(2022, 2, 21, 16, 37, 30), None, {
            "import_wh": 4408736, "export_wh": 0, "import_varh": 1591784, "power_w": 2893,
        }),
    ),
    "push-lg-e450-vse2026": (
        "lg_e450_described",
        (utc_s(2026, 5, 4, 9, 39, 21), "LGZ1030653520967", {
            "import_wh": 482939, "export_wh": 0, "import_varh": 37,
            "power_w": 28, "voltage_dv": 2360, "current_ca": 9,
        }),
    ),
    "push-iskra-am550-vse2026": (
        "iskra_am550_described",
        (utc_s(2026, 5, 4, 17, 19, 30), "ISK1030783821282", {
            "import_wh": 15207, "export_wh": 8987, "import_varh": 12784,
            "power_w": 27, "voltage_dv": 2347, "current_ca": 12,
        }),
    ),
    "push-lg-e570-enc-only": (
        "lg_e570",
        (utc_s(2024, 3, 13, 8, 2, 45), "LGZ1030769231253", {
            "import_wh": 862055, "export_wh": 641361, "power_w": 0,
        }),
    ),
}  # fmt: skip
"""Capture -> class, instant, serial number and values; the values are the published ones."""


def case(name: str) -> dict[str, Any]:
    assert FOLDER is not None
    cases = json.loads((Path(FOLDER) / "dlms_frames.json").read_text())["cases"]
    return next(each for each in cases if each["id"] == name)


def keys_of(vector: dict[str, Any]) -> Keys | None:
    keys = vector.get("keys")
    return keys and Keys(bytes.fromhex(keys["ek"]), bytes.fromhex(keys.get("ak", "")))


captured = pytest.mark.skipif(
    FOLDER is None,
    reason="captured frames are not part of the project; set LOADSCAPE_VECTORS to their folder",
)


@captured
@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_pushes_of_real_meters_fit_one_class_of_all_and_give_their_values(name, piece):
    vector = case(name)
    stream = b"".join(bytes.fromhex(each) for each in vector["input"]["frames"])
    listener = PushListener(ALL, keys_of(vector))
    found = [
        event
        for at in range(0, len(stream), piece)
        for event in listener.receive(stream[at : at + piece], at / 1e6)
    ]
    model, (at_utc_s, serial, values) = CAPTURES[name]
    (reading,) = found
    assert isinstance(reading, PushedReading), reading
    assert (reading.model, reading.at_utc_s, reading.serial) == (model, at_utc_s, serial)
    assert reading.values == values
    assert listener.damaged == 0


@captured
def test_ciphered_pushes_without_or_with_wrong_keys_are_typed_errors():
    vector = case("push-kamstrup-omnipower-enc")
    data = bytes.fromhex(vector["input"]["frames"][0])
    wrong = Keys(bytes(16), bytes(16))
    for keys, kind in ((None, "KeysMissing"), (wrong, "ReplyForged")):
        listener = PushListener(ALL, keys)
        for times in (1, 2):
            (event,) = listener.receive(data, 0.0)
            assert isinstance(event, Unread)
            assert (type(event.error).__name__, event.times) == (kind, times)


@captured
def test_a_ciphered_push_counts_once_and_a_plain_one_never_where_keys_are_known():
    vector = case("push-kamstrup-omnipower-enc")
    data = bytes.fromhex(vector["input"]["frames"][0])
    listener = PushListener(ALL, keys_of(vector))
    first, second = [*listener.receive(data, 0.0), *listener.receive(data, 1.0)]
    assert isinstance(first, PushedReading)
    assert isinstance(second, Unread)
    assert type(second.error).__name__ == "ReplyReplayed"
    (plain,) = listener.receive(kaifa(), 2.0)
    assert isinstance(plain, Unread)
    assert type(plain.error).__name__ == "ReplyUnprotected"


def u32(value: int) -> bytes:
    return axdr.number(Tag.U32, value)


def notification(value: bytes, stamp: bytes = KAIFA_STAMP) -> bytes:
    return b"\x0f\x40\x00\x00\x00" + axdr.length(len(stamp)) + stamp + value


def kaifa_list(*values: int) -> bytes:
    texts = [axdr.octets(text) for text in (b"KFM_001", b"6970631401753985", b"MA304H3E")]
    return axdr.structure(*texts, *map(u32, values))


def kaifa(values: tuple[int, ...] = (948, 100, 0, 64, 1416, 0, 0, 2385, 0, 0)) -> bytes:
    return pushed(notification(kaifa_list(*values)))


def pushed(apdu: bytes, control: int = UI | 0x10) -> bytes:
    return frame(b"\x41", b"\x08\x83", control, b"\xe6\xe7\x00" + apdu)


def segmented(apdu: bytes, size: int) -> bytes:
    whole = b"\xe6\xe7\x00" + apdu
    return b"".join(
        frame(b"\x41", b"\x08\x83", UI, whole[at : at + size], segmented=at + size < len(whole))
        for at in range(0, len(whole), size)
    )


@pytest.mark.parametrize("control", [UI, UI | 0x10, 0x10])
def test_a_list_without_names_is_read_by_position_and_power_is_import_less_export(control):
    (reading,) = PushListener(ALL).receive(
        pushed(notification(kaifa_list(948, 100, 0, 64, 1416, 0, 0, 2385, 0, 0)), control), 0.0
    )
    assert isinstance(reading, PushedReading)
    assert reading.values == {"power_w": 848, "current_ca": 142, "voltage_dv": 2385}
    assert reading.raw[3] == ("element 3", 948)
    assert reading.sample(5) == Sample(
        5, power_w=848, current_ca=142, voltage_dv=2385, serial="6970631401753985"
    )


@given(size=st.integers(1, 120), cuts=st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_segments_and_pieces_of_any_size_are_one_reading(size, cuts):
    stream = segmented(notification(kaifa_list(1, 0, 0, 0, 0, 0, 0, 2300, 0, 0)), size)
    listener, events, at, turn = PushListener(ALL), [], 0, 0
    while at < len(stream):
        step = cuts[turn % len(cuts)]
        events += listener.receive(stream[at : at + step], at / 1e6)
        at, turn = at + step, turn + 1
    (reading,) = events
    assert isinstance(reading, PushedReading)
    assert reading.values["power_w"] == 1


@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_damaged_byte_never_gives_another_value(at, flip):
    stream = bytearray(kaifa())
    stream[at % len(stream)] ^= flip
    listener = PushListener(ALL)
    events = [*listener.receive(bytes(stream), 0.0), *listener.receive(kaifa(), 10.0)]
    readings = [event.values for event in events if isinstance(event, PushedReading)]
    assert {"power_w": 848, "current_ca": 142, "voltage_dv": 2385} in readings
    assert all(values == readings[0] for values in readings)


def test_a_notification_that_lost_its_end_does_not_meet_the_next_one():
    stream = segmented(notification(kaifa_list(1, 0, 0, 0, 0, 0, 0, 2300, 0, 0)), 40)
    listener = PushListener(ALL)
    assert list(listener.receive(stream[:52], 0.0)) == []
    (reading,) = listener.receive(kaifa(), 10.0)
    assert isinstance(reading, PushedReading)


def test_a_list_of_no_class_is_reported_by_its_names_and_counted():
    unknown = axdr.structure(
        axdr.octets(obis("1.0.1.8.0.255")), u32(1), axdr.octets(obis("1.0.9.8.0.255")), u32(2)
    )
    listener = PushListener(ALL)
    data = pushed(notification(unknown))
    first, second = [*listener.receive(data, 0.0), *listener.receive(data, 1.0)]
    assert isinstance(second, Unread)
    assert (type(second.error).__name__, second.times) == ("ListUnknown", 2)
    assert "1.0.1.8.0.255, 1.0.9.8.0.255" in str(first.error)
    assert "lg_e450" in str(first.error)


def labelled(unit: int, scaler: int = 0) -> bytes:
    names = ["0.0.96.1.0.255", "1.0.1.8.1.255", "1.0.2.8.2.255", "1.0.1.8.0.255", "1.0.2.8.0.255"]
    names += ["1.0.1.7.0.255", "1.0.2.7.0.255", "1.0.32.7.0.255", "1.0.31.7.0.255"]
    units = {"1.0.32.7.0.255": 35, "1.0.31.7.0.255": 33, "1.0.1.7.0.255": 27, "1.0.2.7.0.255": 27}
    elements = [axdr.structure(axdr.octets(obis(names[0])), axdr.octets(b"7"))]
    for name in names[1:]:
        code = units.get(name, unit)
        scale = axdr.structure(axdr.number(Tag.I8, scaler), axdr.number(Tag.ENUM, code))
        elements.append(axdr.structure(axdr.octets(obis(name)), u32(5), scale))
    return axdr.structure(*elements)


def test_scalers_and_units_of_the_list_itself_count():
    data = pushed(notification(labelled(30, scaler=3), KAIFA_STAMP[:-1] + b"\x01"))
    (reading,) = PushListener(ALL).receive(data, 0.0)
    assert isinstance(reading, PushedReading)
    assert (reading.values["import_wh"], reading.values["voltage_dv"]) == (5000, 50_000)
    assert reading.flags == Quality.CLOCK_UNTRUSTED
    (event,) = PushListener(ALL).receive(pushed(notification(labelled(32))), 0.0)
    assert isinstance(event, Unread)
    assert "'varh', the class says 'Wh'" in str(event.error)


@given(st.binary(max_size=300))
def test_any_notification_is_a_reading_or_a_typed_error(body):
    for event in PushListener(ALL).receive(pushed(b"\x0f\x00\x00\x00\x00\x00" + body), 0.0):
        assert isinstance(event, PushedReading | Unread)


def test_a_port_is_listened_to_until_the_time_is_over():
    class Line:
        char_s = 0.001
        opened_at_s = 0.0
        now_s = 0.0

        def read(self, at_least: int, deadline_s: float, due_s: float = 0.0) -> bytes:
            self.now_s = deadline_s
            return kaifa() if self.now_s <= 6.0 else b""

    line = Line()
    found = list(listen(line, ALL, until_s=10.0, now_s=lambda: line.now_s))
    assert len(found) == 2
    assert line.now_s == 10.0


@pytest.mark.parametrize("name", push_classes())
def test_every_push_class_names_its_source_and_is_checked_by_a_capture(name):
    assert load_push_class(name).quantities
    assert name in {model for model, _ in CAPTURES.values()}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('form = "labelled"', 'form = "list"', "push.form: expected one of 'labelled'"),
        ('needs = ["1.0.3', 'needs = ["3', "push.needs: expected six numbers"),
        ("import_wh = {", "wh = {", "values.wh: expected one of import_wh"),
        ('place = "1.0.1.8.0.255"', "place = 3", "import_wh.place: expected a text in quotes"),
        ("[clock]", "[clock]\nzone = 1", "clock.zone: is no key of this table"),
        ("title =", "name =", "title: expected a text in quotes, found nothing"),
        ("source =", "sources =", "source: expected a text in quotes, found nothing"),
    ],
)
def test_an_error_in_a_push_class_names_file_key_and_reason(tmp_path, old, new, message):
    text = (PUSH_FOLDER / "aidon_3phase.toml").read_text()
    assert old in text
    (tmp_path / "mine.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(MeterClassError) as error:
        load_push_class("mine", tmp_path)
    assert message in str(error.value)
    assert "mine.toml" in str(error.value)
