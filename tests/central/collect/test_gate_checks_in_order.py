"""The order in which a batch is checked: the cheap before the dear, nothing believed unsigned."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from central.collect.gate import LARGEST_BATCH, REASONS, Gate
from central.collect.journal import Batch, Refusal
from central.keys.place import EnrolledDevice
from wire import cose, topics
from wire.envelope import BLOCK, NO_PREV, BatchHeader, BatchSigner, DeviceSigner, seal
from wire.p256 import P256Signer
from wire.suites import X25519, suite

ACTIVE, REVOKED, STRANGER, QUARANTINED, RETIRED = (
    DeviceSigner(bytes([n]) * 32) for n in (1, 2, 3, 5, 6)
)
HARDWARE = P256Signer(b"\4" * 32)
PUBLIC = suite(X25519).public_of(bytes(range(32)))


def enrolled(name: str, signer: BatchSigner, *, active: bool = True) -> EnrolledDevice:
    cn = topics.common_name("demo", name)
    return EnrolledDevice(name, cn, signer.kid, signer.public, signer.alg, active, 1)


DEVICES = {
    "t01": enrolled("t01", ACTIVE),
    "t02": enrolled("t02", REVOKED, active=False),
    "t03": enrolled("t03", HARDWARE),
    "t04": replace(enrolled("t04", QUARANTINED), quarantined="two have its keys"),
    "t05": enrolled("t05", RETIRED),
}


class ClaimsP256:
    """An enrolled Ed25519 key whose messages name the other algorithm."""

    alg = cose.ESP256

    def __init__(self, signer: DeviceSigner) -> None:
        self.kid, self.public, self.sign, self.hedge = (
            signer.kid, signer.public, signer.sign, signer.hedge,
        )  # fmt: skip


def batch(signer: BatchSigner, tenant: str = "demo") -> bytes:
    header = BatchHeader(
        signer.alg, BLOCK, signer.kid, tenant, b"stream01", b"boot0001", 1, NO_PREV, b"epoch001",
        X25519, 1,
    )  # fmt: skip
    return seal(header, b"block", epoch_public=PUBLIC, signer=signer)


def faulty(faults: Collection[str]) -> tuple[str, bytes]:
    """Topic and message that have all these faults at once."""
    signer: BatchSigner = ACTIVE
    if "unknown_device" in faults:
        signer = STRANGER
    elif "revoked" in faults:
        signer = REVOKED
    elif "quarantined" in faults:
        signer = QUARANTINED
    elif "retired" in faults:
        signer = RETIRED
    if "algorithm" in faults:
        signer = ClaimsP256(signer)
    message = batch(signer, "other" if "wrong_tenant" in faults else "demo")
    if "signature" in faults:
        message = message[:-1] + bytes([message[-1] ^ 1])
    if "malformed" in faults:
        message += b"\0"
    if "size" in faults:
        message += bytes(LARGEST_BATCH)
    topic = topics.up("demo-t09" if "wrong_device" in faults else "demo-t01")
    if "shard" in faults:
        shard, cn = topic.split("/")[-2:]
        topic = topic.replace(f"/{shard}/", f"/{int(shard, 16) ^ 1:02x}/")
        assert topic.endswith(cn)
    return topic, message


@pytest.mark.parametrize("at", range(len(REASONS)), ids=REASONS)
def test_of_many_faults_the_first_of_the_order_is_found(at: int) -> None:
    gate = Gate("demo", DEVICES, {RETIRED.kid})
    for faults in (REASONS[at:], REASONS[at : at + 1]):
        checked = gate.check(*faulty(faults))
        assert isinstance(checked, Refusal)
        assert checked.reason == REASONS[at], checked.detail


def test_the_order_is_the_documents() -> None:
    assert REASONS == (
        "size", "malformed", "unknown_device", "revoked", "quarantined", "retired", "shard",
        "wrong_device", "wrong_tenant", "algorithm", "signature",
    )  # fmt: skip


def test_each_device_is_held_to_the_algorithm_that_it_was_enrolled_with() -> None:
    gate = Gate("demo", DEVICES)
    for name, signer in (("demo-t01", ACTIVE), ("demo-t03", HARDWARE)):
        assert isinstance(gate.check(topics.up(name), batch(signer)), Batch)
    claimed = gate.check(topics.up("demo-t01"), batch(ClaimsP256(ACTIVE)))
    assert isinstance(claimed, Refusal)
    assert (claimed.reason, claimed.detail) == ("algorithm", "-9, t01 signs with -19")


def test_a_revoked_key_is_refused_on_its_own_topic() -> None:
    checked = Gate("demo", DEVICES).check(topics.up("demo-t02"), batch(REVOKED))
    assert isinstance(checked, Refusal)
    assert checked.reason == "revoked"
