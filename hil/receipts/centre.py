"""One centre without processes: the real reception and journal, and what the loader opens."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from central.collect.fleet import Fleet
from central.collect.journal import Batch, Head, JournalReader, SqliteJournal
from central.collect.reception import Answer, Message, Reception
from central.keys.authority import rotate_epoch
from central.keys.destruction import destroy
from central.keys.epochs import EpochKeys
from central.keys.place import KeyPlace
from central.keys.record import EPOCH, KeyRecord, read_records
from central.metrics import MetricSet
from central.readings.ledger import LoaderLedger, LoaderProgress, Unopened, UnopenedBatch
from central.readings.opening import NotReadable, Opener
from hil.receipts.bench import DEVICE, INTERVAL_S, TENANT, BenchClock, copy_folder
from wire.block import Block
from wire.channels import SCHEMAS
from wire.events import Event

_EVERYTHING = 1 << 40


class Centre:
    """Its disk survives power cuts, its memory does not."""

    def __init__(self, keys: Path, folder: Path, clock: BenchClock) -> None:
        self._keys = KeyPlace(keys)
        self._clock = clock
        self.folder = folder
        folder.mkdir()
        self._ledger = LoaderLedger(folder.parent / "loader.db")
        self._progress = LoaderProgress(folder.parent / "loader.db")
        self._opener = Opener(
            EpochKeys(self._keys, MetricSet()),
            clock,
            interval_s=INTERVAL_S,
            roster_of=self._ledger.roster,
        )
        self._loaded_upto = 0
        self.readings: dict[tuple[str, int], set[tuple[int, ...]]] = {}
        """All values that were said of a meter's interval."""
        self.events: set[Event] = set()
        self.start()

    def start(self) -> None:
        """The collector starts."""
        today = datetime.fromtimestamp(self._clock.now_utc_s(), UTC).date()
        self.journal = SqliteJournal(self.folder, today)
        self.fleet = Fleet(self.folder)
        self._reception = Reception(
            TENANT,
            self._keys,
            self.journal,
            self.fleet,
            self._progress,
            self._clock,
            MetricSet(),
            self._clock.monotonic_s,
        )

    def power_cut(self) -> None:
        """The collector's machine goes off and on."""
        left = copy_folder(self.folder)
        self.journal.close()
        self.fleet.close()
        shutil.rmtree(self.folder)
        self.folder = left
        self.start()

    def close(self) -> None:
        """Give all files back."""
        self.journal.close()
        self.fleet.close()
        self._ledger.close()

    def take(self, messages: Sequence[Message]) -> list[Answer]:
        """What the collector answers to a group of messages."""
        return self._reception.take(messages)

    def look_around(self) -> list[Answer]:
        """What the collector says of its own accord."""
        return self._reception.look_around()

    def head(self, stream: bytes) -> Head | None:
        """Where a stream of the device ends here."""
        return self.journal.head(DEVICE, stream)

    def rotate(self) -> None:
        """A new epoch key."""
        rotate_epoch(self._keys.directory, now_utc_s=self._clock.now_utc_s())

    def destroy_oldest_epoch(self) -> None:
        """As its time comes, be it sealed to or not; there is always another one."""
        if len(self._epochs()) < 2:
            self.rotate()
        destroy(self._keys, EPOCH, self._epochs()[:1], self._clock.now_utc_s())

    def _epochs(self) -> list[KeyRecord]:
        return [r for r in read_records(self._keys, EPOCH) if r.destroyed_utc_s is None]

    # --- the loader

    def journaled(self) -> list[Batch]:
        """All batches in the order in which they were committed."""
        reader = JournalReader(self.folder)
        try:
            return [batch for _, batch in reader.after(0, _EVERYTHING)]
        finally:
            reader.close()

    def load(self) -> bool:
        """Open what came; whether anything did."""
        reader = JournalReader(self.folder)
        try:
            found = reader.after(self._loaded_upto, _EVERYTHING)
        finally:
            reader.close()
        unopened = []
        for lsn, batch in found:
            try:
                content = self._opener.open(DEVICE, batch.sealed)
            except NotReadable as error:
                what = Unopened(lsn, DEVICE, batch.stream, batch.seq, error.reason, str(error))
                unopened.append(UnopenedBatch(what, batch.sealed))
                continue
            if isinstance(content, Block):
                self._learn(content)
            elif isinstance(content, list):
                self.events.update(content)
            self._loaded_upto = lsn
        if found:
            self._ledger.before_commit(self._opener.carried(), (), unopened)
            self._loaded_upto = found[-1][0]
        return bool(found)

    def _learn(self, block: Block) -> None:
        assert block.schema is SCHEMAS[1]
        for row, (end, meter) in enumerate(zip(block.end_utc_s, block.meter, strict=True)):
            key = (block.roster.entries[meter].meter, end)
            values = tuple(column[row] for column in block.columns)
            self.readings.setdefault(key, set()).add(values)
