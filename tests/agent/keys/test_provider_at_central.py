"""Whoever keeps the sign key, central takes and opens what it signed, under its algorithm alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from agent_bench import T0, Central, S, SetClock, edge, sealed_of, start_writer

from agent.keyring import Keyring
from agent.keys.providers import PROVIDERS
from central.collect.gate import Gate
from central.collect.journal import Batch, Refusal
from central.keys.place import EnrolledDevice
from wire.block import decode_block
from wire.envelope import open_sealed
from wire.topics import up


@pytest.mark.parametrize("name", PROVIDERS)
def test_central_takes_batches_under_the_algorithm_of_the_provider_and_no_other(
    name: str, tmp_path: Path
) -> None:
    central = Central()
    provider, key = PROVIDERS[name](None), tmp_path / "sign.key"
    provider.make(key)
    (tmp_path / "root.pub").write_text(central.root.public.hex())
    (tmp_path / "keyset.cose").write_bytes(central.keyset())
    keyring = Keyring("demo", key, tmp_path / "root.pub", tmp_path / "kept.cose", provider)
    keyring.load(tmp_path / "keyset.cose")
    writer = start_writer(tmp_path / "data", keyring, SetClock(T0 + 9 * S))
    writer.hand_over(edge(T0, "m1", "m2"))
    until_s = time.monotonic() + 20
    while not (batches := sealed_of(writer)):  # each fetch waits for the writer's next round
        assert time.monotonic() < until_s
    writer.finish(5)

    signer = provider.open(key)

    def judged(alg: int) -> Batch | Refusal:
        device = EnrolledDevice("t07", "demo-t07", signer.kid, signer.public, alg, True, 1)
        return Gate("demo", {"t07": device}).check(up("demo-t07"), batches[0])

    assert isinstance(judged(signer.alg), Batch)
    (other,) = {-9, -19} - {signer.alg}
    refused = judged(other)
    assert isinstance(refused, Refusal)
    assert refused.reason == "algorithm"
    block = decode_block(open_sealed(batches[0], central.epoch_private), {}.get)
    assert [entry.meter for entry in block.roster.entries] == ["m1", "m2"]
