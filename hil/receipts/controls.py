"""The protocol with one rule left out: each of these must be seen to lose.

A test that cannot fail shows nothing. Every control breaks the real classes in
one place and runs the same schedules.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest.mock import patch

from agent.store.identity import StreamHead
from agent.store.receipts import Receipts
from central.collect.reception import Answer, Message
from hil.receipts.bench import BenchClock, copy_folder
from hil.receipts.centre import Centre
from hil.receipts.concentrator import Concentrator
from hil.receipts.trial import Trial
from wire.receipt import Receipt

_COMMIT_EVERY = 4


class EarlyReceipts(Centre):
    """Receipts go out before the commit: a power cut takes back what came since the last one."""

    def __init__(self, keys: Path, folder: Path, clock: BenchClock) -> None:
        super().__init__(keys, folder, clock)
        self._takes = 0
        self._durable = copy_folder(self.folder)

    def take(self, messages: Sequence[Message]) -> list[Answer]:
        answers = super().take(messages)
        self._takes += 1
        if self._takes % _COMMIT_EVERY == 0:
            shutil.rmtree(self._durable)
            self._durable = copy_folder(self.folder)
        return answers

    def power_cut(self) -> None:
        lost, self.folder = self.folder, copy_folder(self._durable)
        self.journal.close()
        self.fleet.close()
        shutil.rmtree(lost)
        self.start()


class DeletesOnPuback(Concentrator):
    """What the broker has taken is dropped from the outbox."""

    def acknowledged(self, stream: bytes, seq: int) -> None:
        store = self.custody._store
        with store.transaction():
            store.receipt(stream, seq, int(self._clock.utc_s))


class _EarlyReceiptsTrial(Trial):
    centre_kind = EarlyReceipts


class _DeletesOnPubackTrial(Trial):
    concentrator_kind = DeletesOnPuback


def _no_hash(
    receipts: Receipts, receipt: Receipt, head: StreamHead, known: bytes | None
) -> str | None:
    return _difference(receipts, receipt, head, receipt.hash_at_upto if known else None)


_difference = Receipts._difference


@contextmanager
def _without_hash() -> Iterator[None]:
    with patch.object(Receipts, "_difference", _no_hash):
        yield


@contextmanager
def _without_new_stream() -> Iterator[None]:
    with patch.object(Receipts, "_begin_stream", lambda *_, **__: None):
        yield


@dataclass(frozen=True, slots=True)
class Variant:
    """A kind of trial, and what is broken while it runs."""

    what: str
    trial: type[Trial] = Trial
    broken: Callable[[], AbstractContextManager[None]] = nullcontext


FULL: Final = Variant("the full protocol")
CONTROLS: Final[Mapping[str, Variant]] = {
    "early-receipt": Variant("receipt before the durable commit", _EarlyReceiptsTrial),
    "puback": Variant("deletion on PUBACK", _DeletesOnPubackTrial),
    "no-hash": Variant("receipt without chain hash", broken=_without_hash),
    "no-new-stream": Variant("no new stream after a rollback", broken=_without_new_stream),
}
