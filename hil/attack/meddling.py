"""What a broker in the wrong hands does to a publication that passes through it, one way each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hil.attack.hostile_broker import Meddle, Said


def withheld(*, up: bool) -> Meddle:
    """Nothing passes that way."""
    return lambda said: [] if said.up == up else [said]


def flipped(*, up: bool) -> Meddle:
    """The last bit of each publication that way is another."""

    def pass_(said: Said) -> list[Said]:
        if said.up != up or not said.payload:
            return [said]
        return [replace(said, payload=said.payload[:-1] + bytes([said.payload[-1] ^ 1]))]

    return pass_


def repeated(every: list[Said]) -> Meddle:
    """Each publication passes behind all those of `every`, the newest of them first."""
    return lambda said: [*reversed(every), said, said]


def swapped(topics: Mapping[str, str]) -> Meddle:
    """Each publication passes under the topic of another device."""
    return lambda said: [replace(said, topic=topics.get(said.topic, said.topic))]
