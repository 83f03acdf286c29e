"""Profile files: what is wrong in one is named by file, key and reason."""

import re
import tomllib
from importlib import resources
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.modbus.identity import IdentityRegister, IdentityRule
from agent.modbus.profile import Profile, ProfileError, models, parse, shipped
from agent.modbus.profile_file import SerialDefaults
from ext.checksum import crc16_modbus

WHOLE = """
model = "m"
title = "A meter"
phases = 1
function = 4
word_order = "big"
side = "primary"
max_registers = 50
most_power_w = 100
most_power_source = "page 1"
settable_delay_ms = 10
settable_delay_how = "register 5"
notes = ["odd"]
[defaults]
baud = 9600
parity = "E"
stopbits = 1
unit = 3
bauds = [4800, 9600]
source = "page 2"
[serial]
function = 3
address = 512
type = "uint32"
words = 2
sources = ["manual"]
[[identify]]
function = 3
address = 600
type = "ascii"
words = 2
block_address = 598
block_words = 6
begins = ["AB"]
sources = ["manual"]
[sample]
import_wh = ["energy"]
[sources]
manual = "page 3"
[[register]]
name = "energy"
address = 72
type = "uint32"
scale = 0.01
unit = "kWh"
min = 0
max = 9999999990
step = "10 Wh"
rollover = 10000000
rollover_source = "manual"
missing = [4294967295]
sources = ["manual"]
[[example]]
origin = "captured"
source = "own meter"
expect = { import_wh = 12345670 }
flags = []
[[example.read]]
request = "01 04 00 48 00 02 f1 dd"
answer = "01 04 04 00 12 d6 87 45 83"
"""


def with_crc(text: str) -> str:
    frame = bytes.fromhex(text)
    return (frame + crc16_modbus(frame).to_bytes(2, "little")).hex(" ")


def test_a_profile_says_all_that_its_keys_say() -> None:
    profile = parse(WHOLE, "p.toml")
    assert profile.defaults == SerialDefaults(9600, "E", 1, 3, (4800, 9600), "page 2")
    assert profile.serial == IdentityRegister(3, 512, 2, "uint32", ("manual",))
    text = IdentityRegister(3, 600, 2, "ascii", ("manual",), (598, 6))
    assert profile.identify == (IdentityRule(text, begins=("AB",)),)
    assert (profile.most_power_w, profile.most_power_source) == (100, "page 1")
    assert (profile.settable_delay_s, profile.settable_delay_how) == (0.01, "register 5")
    assert profile.notes == ("odd",)
    (example,) = profile.examples
    assert (example.origin, example.source) == ("captured", "own meter")
    assert profile.reading(example.words).values == example.expect


def test_what_no_source_names_is_unknown() -> None:
    text = re.sub(r"\[serial\].*?\[sample\]", "[sample]", WHOLE, flags=re.S)
    text = re.sub(r"most_power.*\n", "", text).replace(
        'model = "m"', 'model = "m"\nserial = "unknown"\nidentify = "unknown"'
    )
    profile = parse(text, "p.toml")
    assert (profile.serial, profile.identify, profile.most_power_w) == (None, (), None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("function = 4", "function = ", "p.toml: expected TOML, got"),
        ("function = 4", "function = 4\ngap_s = 1", "p.toml: gap_s: not a key of a profile"),
        ("function = 4", "function = 6", "p.toml: function: expected one of 3, 4, got 6"),
        ("function = 4", "function = 4.0", "function: expected one of 3, 4, got 4.0"),
        ('word_order = "big"', "", "word_order: expected one of big, little, got nothing"),
        ("phases = 1", "phases = 4", "phases: expected 1..3, got 4"),
        ("phases = 1", "phases = true", "phases: expected a whole number, got True"),
        ('side = "primary"', 'side = "left"', "side: expected one of primary, secondary, either"),
        ("max_registers = 50", "max_registers = 126", "max_registers: expected 1..125, got 126"),
        ("max_registers = 50", "barriers = [1, -1]", "barriers: expected whole numbers 0..65535"),
        ('most_power_source = "page 1"', "", "most_power_source: expected a text, got nothing"),
        ('settable_delay_how = "register 5"', "", "settable_delay_how: expected a text"),
        ('notes = ["odd"]', "notes = [1]", "notes: expected a list of texts, got [1]"),
        ("baud = 9600", "baud = 9601", "defaults.baud: expected one of 300"),
        ('parity = "E"', 'parity = "even"', "defaults.parity: expected one of N, E, O"),
        ("stopbits = 1", "stopbits = true", "defaults.stopbits: expected one of 1, 2, got True"),
        ("unit = 3", "unit = 0", "defaults.unit: expected 1..247, got 0"),
        ('source = "page 2"', "", "defaults.source: expected a text, got nothing"),
        ("[serial]", "[sreial]", "serial: expected a table or a text, got nothing"),
        ('type = "uint32"\nwords = 2', 'type = "uint32"\nwords = 3', "serial.words: expected 2"),
        ("address = 512", "address = 65535", "serial.address: expected 0..65534"),
        ('begins = ["AB"]', "", "identify 1: equals: expected one value or more"),
        ('begins = ["AB"]', "equals = [7]", "identify 1: equals: expected str for ascii, got 7"),
        ("block_words = 6", "block_words = 1", "identify 1: block: expected registers 600..601"),
        ("block_words = 6", "", "identify 1: block_words: expected a whole number, got nothing"),
        ('["energy"]', '["enrgy"]', "sample.import_wh: expected names of this profile's registers"),
        ('["energy"]', "[[]]", "sample.import_wh: expected a list of texts"),
        ('["energy"]', '["energy", "energy"]', "sample.import_wh: expected each register once"),
        ("max_registers = 50", "max_registers = 1", "max_registers: expected 2 or more for energy"),
        ("max_registers = 50", "barriers = [73]", "barriers: expected none within energy, got 73"),
        ("import_wh = [", "import_kwh = [", "sample.import_kwh: expected one of import_wh"),
        ("import_wh = [", "export_wh = [", "sample.import_wh: expected the counter of imported"),
        ("import_wh = [", "power_w = [", "sample.power_w: expected registers whose unit is a mul"),
        ('manual = "page 3"', "manual = 3", "sources.manual: expected a text, got 3"),
        ("[[register]]", "[[rigester]]", "register: expected one table [[register]] or more"),
        ("address = 72", "address = 70000", "register 1: address: expected 0..65535, got 70000"),
        ("address = 72", "address = 65535", "register 1: address: expected 0..65534 for uint32"),
        ('"uint32"\nscale', '"bcd"\nscale', "register 1: type: expected one of int16"),
        ("scale = 0.01", "scale = 0", "register 1: scale: expected a number other than 0"),
        ("scale = 0.01", "scale = nan", "register 1: scale: expected a finite number, got nan"),
        ("scale = 0.01", 'scale = "1"', "scale: expected a whole number or a number with a point"),
        ('unit = "kWh"', 'unit = "MWh"', "register 1: unit: expected one of kWh"),
        ("max = 9999999990", "max = -1", "register 1: max: expected more than min (0), got -1"),
        ('step = "10 Wh"', "", "register 1: step: expected the counter's smallest step"),
        ("rollover = 10000000", "rollover = 0", "rollover: expected a positive modulus"),
        ('rollover_source = "manual"', "", "rollover_source: expected a text, got nothing"),
        (
            'rollover_source = "manual"',
            'rollover_source = "x"',
            "rollover_source: expected keys of",
        ),
        ("[4294967295]", '["ones"]', "register 1: missing: expected a list of raw numbers"),
        (
            'missing = [4294967295]\nsources = ["manual"]',
            'sources = ["hearsay"]',
            "register 1: sources: expected keys of the table [sources], got 'hearsay'",
        ),
        (
            'missing = [4294967295]\nsources = ["manual"]',
            "sources = []",
            "register 1: sources: expected a list of texts, got []",
        ),
        ('source = "own meter"', "", "example 1: source: expected a text, got nothing"),
        ("flags = []", 'flags = ["BAD"]', "example 1: flags: expected names of NO_DATA"),
        ("= 12345670 }", "= 1.5 }", "example 1: expect.import_wh: expected a whole number"),
        ("45 83", "45 84", "read 1: answer: expected a CRC of 45 83, got '45 84'"),
        ("45 83", "45 8", "example 1: read 1: answer: expected hexadecimal bytes"),
    ],
)
def test_a_wrong_profile_is_refused_with_key_and_reason(old: str, new: str, message: str) -> None:
    assert WHOLE.count(old) >= 1
    with pytest.raises(ProfileError, match=re.escape(message)) as refused:
        parse(WHOLE.replace(old, new, 1), "p.toml")
    assert str(refused.value).startswith("p.toml: ")


def test_two_registers_of_one_name_are_refused() -> None:
    (register,) = re.findall(r"\[\[register\]\].*?(?=\[\[example)", WHOLE, re.S)
    with pytest.raises(ProfileError, match="register names: expected each once"):
        parse(WHOLE + register, "p.toml")


@pytest.mark.parametrize(
    ("request_frame", "answer", "message"),
    [
        ("01 06 00 48 00 02", "01 06 04 00 12 d6 87", "request: expected 8 bytes with func"),
        ("01 04 00 48 00 7e", "01 04 fc 00", "request: expected 1..125 registers, got 126"),
        ("01 04 00 48 00 02", "02 04 04 00 12 d6 87", "answer: expected 9 bytes that begin 01 04"),
        ("01 04 00 48 00 02", "01 84 02", "answer: expected 9 bytes that begin 01 04 04, got '5"),
        ("01 04 00 48 00 02", "01 04 04 00 12 d6 87 00", "answer: expected 9 bytes"),
    ],
)
def test_an_example_whose_answer_does_not_fit_its_request_is_refused(
    request_frame: str, answer: str, message: str
) -> None:
    text = WHOLE.replace("01 04 00 48 00 02 f1 dd", with_crc(request_frame))
    text = text.replace("01 04 04 00 12 d6 87 45 83", with_crc(answer))
    with pytest.raises(ProfileError, match=re.escape(message)):
        parse(text, "p.toml")


# --- any damage -----------------------------------------------------------------------------------


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a TOML document each value lies."""
    if isinstance(value, dict):
        inner = [paths(entry, (*at, key)) for key, entry in value.items()]
    elif isinstance(value, list):
        inner = [paths(entry, (*at, number)) for number, entry in enumerate(value)]
    else:
        inner = []
    return [at, *(path for each in inner for path in each)]


def toml(value: Any) -> str:
    """`value` as an inline TOML value."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {toml(entry)}' for key, entry in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(c if c.isalnum() or c in " _-" else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    return repr(value)


def document(table: dict[str, Any]) -> str:
    return "\n".join(f'"{key}" = {toml(value)}' for key, value in table.items())


def test_the_writer_of_these_tests_changes_nothing() -> None:
    table = tomllib.loads(WHOLE)
    assert tomllib.loads(document(table)) == table


def read_or_refused_by_name(text: str) -> Profile | None:
    """The profile; None where it is refused. Any other error, or one without the name, fails."""
    refusal = ""
    try:
        return parse(text, "p.toml")
    except ProfileError as error:
        refusal = str(error)
    assert re.match(r"p\.toml: .*\w: expected .*, got |p\.toml: .*: not a key", refusal, re.S)
    return None


DAMAGE = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8),
    st.lists(st.integers(-1, 300), max_size=3),
    st.just({}),
    st.just([[]]),
    st.just([{}]),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_profile_with_any_value_changed_is_read_or_refused_by_name(data: st.DataObject) -> None:
    table = tomllib.loads(WHOLE)
    path = data.draw(st.sampled_from([path for path in paths(table) if path]))
    inner: Any = table
    for key in path[:-1]:
        inner = inner[key]
    if data.draw(st.booleans()):
        inner[path[-1]] = data.draw(DAMAGE)
    else:
        del inner[path[-1]]
    profile = read_or_refused_by_name(document(table))
    if profile is not None:
        profile.counter_limits()
        for example in profile.examples:
            profile.reading(example.words)
            profile.shown(example.words)


@pytest.mark.parametrize("model", models())
def test_a_shipped_profile_without_one_of_its_keys_is_read_or_refused_by_name(model: str) -> None:
    text = resources.files("agent.modbus").joinpath("profiles", f"{model}.toml").read_text()
    for key in tomllib.loads(text):
        table = tomllib.loads(text)
        del table[key]
        read_or_refused_by_name(document(table))


@pytest.mark.parametrize("model", models())
def test_a_shipped_profile_says_unknown_where_no_source_names_a_register(model: str) -> None:
    text = resources.files("agent.modbus").joinpath("profiles", f"{model}.toml").read_text()
    table = tomllib.loads(text)
    profile = shipped(model)
    assert (table["serial"] == "unknown") == (profile.serial is None)
    assert (table["identify"] == "unknown") == (profile.identify == ())
