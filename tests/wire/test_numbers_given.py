"""Numbers on the wire are given once: what was given stands in a file, and the program agrees.

Who adds a schema, content, suite, algorithm or flag appends it to `numbers_given.json`; a line that
is there is never changed or taken away, also when the program stops writing what it names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from wire import cose, envelope, keyset, receipt, suites
from wire.channels import SCHEMAS
from wire.quality import Quality

GIVEN = json.loads((Path(__file__).parent / "numbers_given.json").read_text())
LARGEST_ID = (1 << 15) - 1
"""What the readings table holds."""
MOST_CHANNELS = 63
"""What a roster's mask holds."""


def named(module: object, *names: str) -> dict[str, str]:
    return {str(getattr(module, name)): name for name in names}


IN_THE_PROGRAM: Mapping[str, Callable[[], object]] = {
    "schemas": lambda: {
        str(number): [[c.name, c.kind, c.unit, c.scale] for c in schema.channels]
        for number, schema in SCHEMAS.items()
    },
    "contents": lambda: {
        **named(envelope, "BLOCK", "CBOR_ROWS", "EVENTS", "LOG"),
        **named(receipt, "RECEIPT_CONTENT"),
        **named(keyset, "KEYSET_CONTENT"),
    },
    "suites": lambda: named(suites, "X25519", "MLKEM768_X25519"),
    "algorithms": lambda: named(cose, "ED25519", "ESP256"),
    "flags": lambda: {str(flag.bit_length() - 1): flag.name for flag in Quality},
}


@pytest.mark.parametrize("kind", IN_THE_PROGRAM)
def test_every_number_means_what_it_meant_when_it_was_given(kind: str) -> None:
    assert IN_THE_PROGRAM[kind]() == GIVEN[kind]


def test_all_suites_of_the_table_are_among_those_given() -> None:
    assert sorted(map(str, suites.SUITES)) == sorted(GIVEN["suites"])


@pytest.mark.parametrize("number", SCHEMAS)
def test_a_schema_is_within_what_every_reader_can_hold(number: int) -> None:
    channels = SCHEMAS[number].channels
    assert SCHEMAS[number].id == number
    assert 1 <= number <= LARGEST_ID
    assert 2 <= len(channels) <= MOST_CHANNELS
    assert [channel.kind for channel in channels].index("flags") == len(channels) - 1
    assert len({channel.name for channel in channels}) == len(channels)
