"""MQTT topics and the client name that they carry.

`cn` = `<tenant>-<device>` is the common name of the device's certificate and,
at the broker, its username and client id. The shard spreads devices evenly so
that collectors can own parts of the topic space.
"""

from __future__ import annotations

import hashlib
import re

_NAME = re.compile(r"[a-z0-9]([a-z0-9_]{0,30}[a-z0-9])?\Z")


class TopicError(ValueError):
    """A name or topic is not of the form that the contract asks for."""


def common_name(tenant: str, device: str) -> str:
    """`<tenant>-<device>`; raises TopicError unless both are lower-case letters, digits, `_`."""
    for role, name in (("tenant", tenant), ("device", device)):
        if not _NAME.match(name):
            raise TopicError(
                f"{role} {name!r}: expected 1 to 32 of a-z, 0-9 and inner '_' (no dash, dot, slash "
                "or wildcard, they mean something in topics); rename it"
            )
    return f"{tenant}-{device}"


def shard(cn: str) -> str:
    """First byte of SHA-256(cn) as two hex digits."""
    return hashlib.sha256(cn.encode()).hexdigest()[:2]


def up(cn: str) -> str:
    """Where the device publishes sealed batches."""
    return f"loadscape/1/up/{shard(cn)}/{cn}"


def state(cn: str) -> str:
    """Where the device keeps its retained birth, state and will."""
    return f"loadscape/1/state/{cn}"


def down(cn: str) -> str:
    """Where central answers with receipts, refusals and keysets."""
    return f"loadscape/1/down/{cn}"


def device_of(topic: str) -> str:
    """The `cn` of an up or state topic; raises TopicError if shape or shard is wrong."""
    parts = topic.split("/")
    if parts[:3] == ["loadscape", "1", "up"] and len(parts) == 5:
        cn = parts[4]
        if topic != up(cn):
            raise TopicError(f"topic {topic!r}: device {cn!r} belongs to shard {shard(cn)!r}")
        return cn
    if parts[:3] == ["loadscape", "1", "state"] and len(parts) == 4:
        return parts[3]
    raise TopicError(f"topic {topic!r}: expected loadscape/1/up/SHARD/CN or loadscape/1/state/CN")
