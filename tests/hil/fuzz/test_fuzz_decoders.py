"""Damaged input for every decoder: a value or a typed error, within bounds of time and memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from hil.fuzz.cost import lines_run, peak_bytes
from hil.fuzz.decoders import Decoder, decoders
from hil.fuzz.mutate import grown, mutations

COUNT = 10_000
COSTED = 60
LONG_BYTES = 8_192
LONG_SEEDS = 2

BY_NAME = decoders()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is logged about a meter's lies is of no use here, and keeping it takes time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(params=BY_NAME)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return BY_NAME[request.param]


def costed(decoder: Decoder) -> list[bytes]:
    """Some damaged inputs, long ones that repeat what is in a seed, and the costliest known."""
    seeds = decoder.seeds()
    longest = sorted(seeds, key=len)[-LONG_SEEDS:]
    return [
        b"",
        *mutations(seeds, COSTED, seed=2),
        *decoder.worst(LONG_BYTES),
        *(data for seed in longest for data in (seed, *grown(seed, LONG_BYTES))),
    ]


def test_ten_thousand_damaged_inputs_give_a_value_or_a_typed_error(decoder):
    refused = 0
    for data in mutations(decoder.seeds(), COUNT, seed=1):
        try:
            refused += decoder.refused(data) is not None
        except Exception as error:
            error.add_note(f"{decoder.name}: {data.hex()}")
            raise
    # Damage that is never refused, or that ends all at the first check, would prove nothing.
    if decoder.allowed:
        assert COUNT / 20 < refused < COUNT


def test_good_inputs_are_among_the_seeds(decoder):
    taken = [data for data in decoder.seeds() if decoder.refused(data) is None]
    assert taken


def test_the_lines_run_grow_no_faster_than_the_input(decoder):
    for data in costed(decoder):
        spent = lines_run(lambda data=data: decoder.refused(data))
        assert spent <= decoder.most_lines(len(data)), data[:64].hex()


def test_memory_grows_no_faster_than_the_input(decoder):
    for data in costed(decoder):
        held = peak_bytes(lambda data=data: decoder.refused(data))
        assert held <= decoder.most_bytes(len(data)), data[:64].hex()
