"""What sealing and opening a batch costs, beside the bare cipher on the same bytes.

Sealing is what an agent does per batch: header, padding, HPKE, signature.
Opening is what central does: the checks of form, the signature, HPKE, padding.
The plaintext is one block of 200 meters, one interval.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from hil.bench.figure import Figure
from wire.envelope import (
    BLOCK,
    NO_PREV,
    BatchHeader,
    DeviceSigner,
    open_sealed,
    seal,
    verify,
)
from wire.suites import X25519

PLAINTEXT_BYTES: Final = 2_200
_ROUNDS: Final = 7
_PER_ROUND: Final = 200


def envelope_figures() -> Iterator[Figure]:
    """`envelope.seal_us` and `envelope.open_us`, the quietest of seven rounds, and the bytes."""
    signer = DeviceSigner(os.urandom(32))
    private = X25519PrivateKey.generate()
    public, secret = private.public_key().public_bytes_raw(), private.private_bytes_raw()
    plaintext = os.urandom(PLAINTEXT_BYTES)
    header = BatchHeader(
        alg=signer.alg,
        content=BLOCK,
        kid=signer.kid,
        tenant="demo",
        stream=os.urandom(8),
        boot=os.urandom(8),
        seq=1,
        prev=NO_PREV,
        epoch_kid=os.urandom(8),
        suite=X25519,
        schema_id=1,
    )
    sealed = seal(header, plaintext, epoch_public=public, signer=signer)
    cipher = ChaCha20Poly1305(ChaCha20Poly1305.generate_key())
    bare_us = _quietest_us(lambda: cipher.encrypt(bytes(12), plaintext, None))
    peer = "ChaCha20-Poly1305 alone"
    seal_us = _quietest_us(lambda: seal(header, plaintext, epoch_public=public, signer=signer))
    yield Figure("envelope.seal_us", seal_us, "µs", peer=peer, peer_value=bare_us)

    def open_it() -> None:
        verify(sealed, signer.public)
        open_sealed(sealed, secret)

    yield Figure("envelope.open_us", _quietest_us(open_it), "µs", peer=peer, peer_value=bare_us)
    yield Figure("envelope.bytes", len(sealed) - PLAINTEXT_BYTES, "B, padding included", limit=371)


def _quietest_us(run: Callable[[], object]) -> float:
    rounds = []
    for _ in range(_ROUNDS):
        began_ns = time.perf_counter_ns()
        for _ in range(_PER_ROUND):
            run()
        rounds.append((time.perf_counter_ns() - began_ns) / _PER_ROUND / 1000)
    return min(rounds)
