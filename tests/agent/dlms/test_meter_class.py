"""Files of meter classes: those that ship, and those of one's own with their mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.constants import obis
from agent.dlms.meter_class import (
    FOLDER,
    MeterClassError,
    find_meter_class,
    load_meter_class,
)
from wire.quality import Quality

SHIPPED = sorted(file.stem for file in FOLDER.glob("*.toml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_class_can_be_read_and_says_what_a_reading_needs(name):
    meter_class = load_meter_class(name)
    assert {"import_wh", "export_wh"} <= set(meter_class.quantities)
    assert {"import_wh", "export_wh"} <= set(meter_class.profile.columns)
    assert meter_class.profile.buffer == Attribute.parse("7/1.0.99.1.0.255/2")
    assert set(meter_class.logs) == {"standard", "fraud", "control", "power_quality"}
    assert meter_class.clock_setting.how == "never"
    assert meter_class.profile.side == ("secondary" if "ct_" in name else "primary")
    assert meter_class.mechanism == ("hls-gmac" if name.endswith("_gmac") else "lls")
    assert meter_class.needs_password is not name.endswith("_gmac")
    assert (meter_class.counter_object is not None) is name.endswith("_gmac")


def test_titles_tell_the_shipped_classes_apart():
    assert len({load_meter_class(name).title for name in SHIPPED}) == len(SHIPPED)


def test_status_bits_add_up_to_flags():
    flags = load_meter_class("idis_residential").profile.status_flags
    assert flags[0x80] == Quality.POWER_FAIL
    assert flags[0x22] == Quality.CLOCK_UNTRUSTED
    assert flags[0x84] == Quality.POWER_FAIL | Quality.PARTIAL
    assert flags[0x08] == 0


MINE = """
like = "idis_residential"
title = "Mine"
[association]
security = "hls-gmac"
ciphering = "dedicated"
suite = 2
counter_object = "1/0.0.43.1.1.255/2"
[link]
exchange_s = 20
longest_answer = 4096
[clock]
set = "shift"
least_s = 5
most_s = 60
edge_s = 20
[objects]
export_wh = false
import_wh = { object = "4/1.1.1.8.0.255/2", unit = "Wh" }
[profile]
object = "1.0.99.2.0.255"
access = "entry"
energies = "deltas"
side = "secondary"
period_s = 1800
columns = { status = false, voltage_dv = false }
status_bits = { 7 = false, 12 = "PARTIAL" }
[logs]
fraud = false
[logs.vendor]
object = "1.0.99.98.7.255"
code = "1/0.0.96.11.7.255/2"
clock = "8/0.0.1.0.0.255/3"
columns = { magnitude = "1/0.0.96.15.0.255/2" }
"""


def test_a_class_of_ones_own_says_only_what_is_different(tmp_path: Path):
    (tmp_path / "mine.toml").write_text(MINE)
    mine, usual = find_meter_class("mine.toml", tmp_path), load_meter_class("idis_residential")
    assert (mine.name, mine.title, mine.mechanism, mine.ciphering, mine.suite) == (
        "mine", "Mine", "hls-gmac", "dedicated", 2,
    )  # fmt: skip
    assert mine.counter_object == Attribute.parse("1/0.0.43.1.1.255/2")
    assert (mine.link.exchange_s, mine.link.longest_answer) == (20.0, 4096)
    assert mine.link.max_info == usual.link.max_info
    clock = mine.clock_setting
    assert (clock.how, clock.least_s, clock.most_s, clock.edge_s) == ("shift", 5, 60, 20)
    assert set(usual.quantities) - set(mine.quantities) == {"export_wh"}
    assert mine.quantities["import_wh"].attributes == (Attribute.parse("4/1.1.1.8.0.255/2"),)
    profile = mine.profile
    assert (profile.access, profile.energies, profile.side) == ("entry", "deltas", "secondary")
    assert profile.buffer == Attribute.parse("7/1.0.99.2.0.255/2")
    assert profile.clock == usual.profile.clock
    assert (profile.period_s, profile.status) == (1800, None)
    assert set(usual.profile.columns) - set(profile.columns) == {"voltage_dv"}
    assert profile.status_flags[0x80] == 0
    assert profile.wide_status == ((12, Quality.PARTIAL),)
    assert "fraud" not in mine.logs
    vendor = mine.logs["vendor"]
    assert vendor.buffer == Attribute(7, obis("1.0.99.98.7.255"), 2)
    assert vendor.code == Attribute.parse("1/0.0.96.11.7.255/2")
    assert vendor.clock == Attribute.parse("8/0.0.1.0.0.255/3")
    assert vendor.columns == {"magnitude": Attribute.parse("1/0.0.96.15.0.255/2")}


def test_several_objects_are_a_quantity_and_take_the_place_of_the_one_before(tmp_path: Path):
    quadrants = [f"3/1.0.{number}.8.0.255/2" for number in (5, 6)]
    (tmp_path / "mine.toml").write_text(f"""like = "ct_meter"
[objects]
import_varh = {{ object = {quadrants} }}
power_w = {{ object = {[f"3/1.0.{number}.7.0.255/2" for number in (21, 41, 61)]} }}
[profile.columns]
import_varh = {{ object = {quadrants} }}
""")
    mine = load_meter_class("mine", tmp_path)
    expected = tuple(map(Attribute.parse, quadrants))
    for quantity in (mine.quantities["import_varh"], mine.profile.columns["import_varh"]):
        assert (quantity.attributes, quantity.unit) == (expected, "varh")
    assert len(mine.quantities["power_w"].attributes) == 3


def test_a_model_is_a_shipped_class_or_a_file_beside_the_configuration(tmp_path: Path):
    assert find_meter_class("ct_meter", tmp_path) is load_meter_class("ct_meter")
    with pytest.raises(MeterClassError, match=r"no DLMS meter class 'none' in .*known are: none"):
        find_meter_class("none.toml", tmp_path)


def test_an_unknown_class_names_the_known_ones():
    with pytest.raises(MeterClassError, match="ct_meter, ct_meter_gmac, idis_residential"):
        load_meter_class("idis_resident")


@pytest.mark.parametrize("like", ['"nobody"', '"mine"', "7"])
def test_a_class_is_like_a_shipped_one_only(tmp_path: Path, like: str):
    (tmp_path / "mine.toml").write_text(f"like = {like}")
    with pytest.raises(MeterClassError, match=r"mine\.toml: like: expected one of ct_meter"):
        load_meter_class("mine", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("client_sap = 1", "client_sap = 200", "association.client_sap: expected a client SAP"),
        ('security = "lls"', 'security = "hls"', "association.security: expected one of 'none'"),
        (
            'security = "lls"',
            'security = "hls-gmac"\nciphering = "none"',
            "association.ciphering: expected another word",
        ),
        ("lists = true", "general_blocks = 1", "association.general_blocks: expected true or"),
        ("lists = true", "suite = 1", "association.suite: expected one of 0, 2, found 1"),
        ("lists = true", 'counter_object = "1"', "counter_object: expected class/logical name"),
        ("lists = true", "list = true", "association.list: is no key of this table (known: "),
        ("window = 7", "window = 9", "link.window: expected 1 to 7"),
        ("tries = 3", "tries = true", "link.tries: expected a whole number, found True"),
        ("response_s = 1.0", "response_s = nan", "link.response_s: expected 0.05 to 30.0"),
        ("max_pdu = 65535", "max_pdu = 1", "max_pdu: expected 64"),
        ('set = "never"', 'set = "always"', "clock.set: expected one of 'never'"),
        ('set = "never"', "most_s = 2", "clock.most_s: expected at least least_s (3), found 2"),
        ("utc_offset_min = 60", "", "clock.utc_offset_min: expected a whole number, found nothing"),
        (
            '{ object = "3/1.0.3.8.0.255/2", unit = "varh" }\nvoltage_dv = { object = "3/1.0.32.7',
            '{ object = [], unit = "varh" }\nvoltage_dv = { object = "3/1.0.32.7',
            "objects.import_varh.object: expected a text in quotes or a list of them, found []",
        ),
        (
            'object = "3/1.0.31.7.0.255/2"',
            'object = ["3/1.0.31.7.0.255/2", "3/1.0.51.7.0.255/2"]',
            "objects.current_ca.object: expected one; several are added up for import_wh",
        ),
        (
            'object = "3/1.0.31.7.0.255/2"',
            'object = ["3/1.0.31.7.0.255/2", "3/1.0.31.7.0.255/2"]',
            "objects.current_ca.object: expected each of the list once, found",
        ),
        (
            'object = "3/1.0.31.7.0.255/2"',
            'object = ["3/1.0.31.7.0.255/2", "3/1.0.51"]',
            "objects.current_ca.object: expected class/logical name/attribute",
        ),
        ('7 = "POWER_FAIL"', '7 = "POWER"', "status_bits.7: expected one of 'NO_DATA"),
        ('7 = "POWER_FAIL"', '32 = "POWER_FAIL"', "status_bits.32: expected a bit number of 0"),
        ("voltage_dv = {", "voltage = {", "objects.voltage: expected one of import_wh"),
        ('unit = "V" }', "unit = 4 }", "voltage_dv.unit: expected a text in quotes, found 4"),
        ('"1.0.99.1.0.255"', '"1.0.99"', "profile.object: expected six numbers"),
        ("slice_rows = 1000", "slice_rows = 0", "profile.slice_rows: expected 1 to 100000"),
        ('access = "range, else entry"', 'access = "rows"', "profile.access: expected one of"),
        ('"0.0.99.98.1.255"', '"0.0.99.98.1"', "logs.fraud.object: expected six numbers"),
        ("[clock]", "[clock", "not TOML"),
    ],
)
def test_an_error_in_a_class_file_names_file_key_reason_and_remedy(tmp_path, old, new, message):
    text = (FOLDER / "idis_residential.toml").read_text()
    assert old in text
    (tmp_path / "mine.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(MeterClassError) as error:
        load_meter_class("mine", tmp_path)
    assert message in str(error.value)
    assert "mine.toml" in str(error.value)
    assert "correct" in str(error.value)
