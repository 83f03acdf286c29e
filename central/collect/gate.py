"""Who may bring what: every check on a batch that needs no stored chain and no epoch key.

Order: size, form, key known, active and not replaced, topic's shard, topic's device, tenant,
algorithm, signature. Nothing of a batch is believed before its signature holds.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Literal, get_args

from central.collect.journal import Batch, Refusal
from central.keys.place import EnrolledDevice
from wire.cose import CoseError
from wire.envelope import EnvelopeError, chain_hash, read_header, verify
from wire.topics import TopicError, device_of

LARGEST_BATCH = 128 * 1024
"""Bytes of one sealed batch."""

RefusedBecause = Literal[
    "size",
    "malformed",
    "unknown_device",
    "revoked",
    "quarantined",
    "retired",
    "shard",
    "wrong_device",
    "wrong_tenant",
    "algorithm",
    "signature",
]
REASONS: tuple[RefusedBecause, ...] = get_args(RefusedBecause)


class Gate:
    """Checks batches of one tenant against its enrolled devices."""

    def __init__(
        self,
        tenant: str,
        devices: Mapping[str, EnrolledDevice],
        retired: Container[bytes] = frozenset(),
    ) -> None:
        """`retired` are keys whose successor has signed a batch: they count no more."""
        self._tenant = tenant
        self._retired = retired
        self._by_kid = {
            key.kid: key for device in devices.values() for key in device.under_each_key()
        }

    def check(self, topic: str, message: bytes) -> Batch | Refusal:
        """The verified batch, or why it is none."""

        def refused(reason: RefusedBecause, detail: str) -> Refusal:
            return Refusal(topic, reason, detail, message[:LARGEST_BATCH])

        if len(message) > LARGEST_BATCH:
            return refused("size", f"{len(message)} bytes, allowed are {LARGEST_BATCH}")
        try:
            header = read_header(message)
        except EnvelopeError as error:
            return refused("malformed", str(error))
        device = self._by_kid.get(header.kid)
        if device is None:
            return refused("unknown_device", f"no device has the key {header.kid.hex()}")
        if not device.active:
            return refused("revoked", f"key {header.kid.hex()} of {device.device} is revoked")
        if device.quarantined:
            return refused("quarantined", f"{device.device}: {device.quarantined}")
        if header.kid in self._retired:
            return refused("retired", f"key {header.kid.hex()} of {device.device} has a successor")
        try:
            cn = device_of(topic)
        except TopicError as error:
            return refused("shard", str(error))
        if cn != device.cn:
            return refused("wrong_device", f"key of {device.cn} on the topic of {cn}")
        if header.tenant != self._tenant:
            return refused("wrong_tenant", f"{header.tenant!r}, here is {self._tenant!r}")
        if header.alg != device.alg:
            return refused("algorithm", f"{header.alg}, {device.device} signs with {device.alg}")
        try:
            verify(message, device.public, device.alg)
        except (EnvelopeError, CoseError) as error:
            return refused("signature", str(error))
        return Batch(
            device=device.device,
            stream=header.stream,
            seq=header.seq,
            prev=header.prev,
            hash=chain_hash(message),
            kid=header.kid,
            content=header.content,
            schema_id=header.schema_id,
            sealed=message,
        )
