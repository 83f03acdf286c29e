"""What must hold after a cut, on the agent's side and the collector's: judged by their own code.

A state is opened the way the product opens it. What had been promised by the
cut must be there: at the agent every interval that its database had shown to
another process, with its values, and still to be sent or in a batch; at the
collector every batch that the agent has a receipt for, and whole chains.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from agent.health import Faults
from agent.store.database import UNCUT, StoreDamaged, StoreFull
from agent.store.opening import DATABASE_FILE, open_store
from central.collect.journal import Batch, JournalError, JournalReader, SqliteJournal
from hil.powercut.disk import Image, lay_out
from hil.powercut.recording import READINGS, START_UTC_S, Recorded
from wire import envelope
from wire.quality import Quality

_DAY: Final = datetime.fromtimestamp(START_UTC_S, UTC).date()

_FLAGS: Final = 1
"""Where a promised row has its flags, behind the serial number."""
_IN_NO_BATCH: Final = (
    f"SELECT count(*) FROM interval WHERE batch != {UNCUT} AND batch NOT IN (SELECT id FROM batch)"
)


@dataclass(slots=True)
class Verdict:
    """What is wrong with one state."""

    lost: int = 0
    """Promised intervals (agent) or batches (collector) that are not there."""
    corrupt: list[str] = field(default_factory=list)
    """Why the state cannot be relied on."""


class Side(Protocol):
    """One process: which promises its marks make, and how a state of its disk is judged."""

    name: str

    def promised(self, mark: Mapping[str, Any]) -> None:
        """Take up a mark: what was promised by now."""
        ...

    def judge(self, folder: Path) -> Verdict:
        """Open the state in `folder`, which may be changed by it."""
        ...


class AgentSide:
    """Judges by the intervals that its database had shown by the cut."""

    name = "agent"

    def __init__(self, recorded: Recorded) -> None:
        self._common_name = f"{recorded.site.settings.tenant}-{recorded.site.devices[0]}"
        self._promised: dict[tuple[str, int], tuple[Any, ...]] = {}

    def promised(self, mark: Mapping[str, Any]) -> None:
        for meter, end_utc_s, *told in mark["rows"]:
            if not told[_FLAGS] & Quality.NO_DATA:
                self._promised[meter, end_utc_s] = tuple(told)

    def judge(self, folder: Path) -> Verdict:
        faults = Faults()
        store, _ = open_store(folder, self._common_name, 64, faults)
        store.close()
        present = faults.present()
        verdict = Verdict(
            corrupt=[f"{key}: {present[key]}" for key in ("store", "stored_rows") if key in present]
        )
        database = sqlite3.connect(f"{(folder / DATABASE_FILE).as_uri()}?mode=ro", uri=True)
        try:
            found = {(row[0], row[1]): row[2:] for row in database.execute(READINGS)}
            (unsent,) = database.execute(_IN_NO_BATCH).fetchone()
        finally:
            database.close()
        if unsent:
            verdict.corrupt.append(f"{unsent} intervals belong to a batch that is not there")
        verdict.lost = sum(found.get(key) != told for key, told in self._promised.items())
        return verdict

    def opens(self, image: Image) -> str | None:
        """None if the store opens on the image and takes a commit; else what it says."""
        with tempfile.TemporaryDirectory(prefix="powercut-") as name:
            folder = Path(name)
            lay_out(image, folder)
            try:
                store, head = open_store(folder, self._common_name, 64, Faults())
                with store.transaction():
                    store.set_head(head)
                store.close()
            except (OSError, ValueError, sqlite3.Error, StoreDamaged, StoreFull) as error:
                return f"{type(error).__name__}: {error}"
        return None


class CollectorSide:
    """Judges by the journal: every receipted batch is there with its bytes, and the chains hold."""

    name = "collector"

    def __init__(self, recorded: Recorded) -> None:
        (self._device,) = recorded.site.devices
        self._promised: dict[tuple[bytes, int], bytes] = {}

    def promised(self, mark: Mapping[str, Any]) -> None:
        key = bytes.fromhex(mark["stream"]), int(mark["seq"])
        self._promised[key] = bytes.fromhex(mark["hash"])

    def judge(self, folder: Path) -> Verdict:
        try:
            return self._judged(folder)
        except (JournalError, sqlite3.DatabaseError) as error:
            return Verdict(len(self._promised), [f"{type(error).__name__}: {error}"])

    def _judged(self, folder: Path) -> Verdict:
        verdict = Verdict()
        journal = SqliteJournal(folder, _DAY)
        heads = {
            stream: journal.head(self._device, stream) for stream, _ in self._promised
        }  # fmt: skip
        journal.close()
        reader = JournalReader(folder)
        batches = [batch for _, batch in reader.after(0, 1 << 30)]
        reader.close()
        stored = {(batch.stream, batch.seq): batch for batch in batches}
        for batch in batches:
            verdict.corrupt += _broken(batch, stored)
        for (stream, seq), chain_hash in self._promised.items():
            kept, head = stored.get((stream, seq)), heads[stream]
            if kept is None or kept.hash != chain_hash or head is None or head.upto < seq:
                verdict.lost += 1
        return verdict


def _broken(batch: Batch, stored: Mapping[tuple[bytes, int], Batch]) -> Iterator[str]:
    if envelope.chain_hash(batch.sealed) != batch.hash:
        yield f"batch {batch.seq}: its bytes are not those of its hash"
    before = stored.get((batch.stream, batch.seq - 1))
    if batch.seq > 1 and (before is None or before.hash != batch.prev):
        yield f"batch {batch.seq}: the batch before it is not there"
