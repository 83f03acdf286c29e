"""The loader's private epoch keys: found when a batch needs one, destroyed on their day.

Looks at the folder again when it changes, so that a new key is taken up and a
destroyed one is forgotten without a restart. Of its own accord it destroys
only with evidence for the time: a clock that has jumped ahead of all readings
must not burn keys that are still needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final

from central.keys.destruction import destroy, due
from central.keys.place import KeyPlace, KeysError, read_hex
from central.keys.record import (
    DAY_S,
    EPOCH,
    KeyRecord,
    destroy_at_utc_s,
    private_file,
    read_records,
)
from central.metrics import MetricSet
from wire.suites import PRIVATE_BYTES

log = logging.getLogger("central.load")

LOOK_EVERY_S: Final = DAY_S
WARN_S: Final = 14 * DAY_S
"""How long before its destruction a key is named in the log."""
_EVIDENCE_S: Final = 2 * DAY_S
"""How far the clock may be ahead of the newest reading for it to be believed."""
_NO_EVIDENCE: Final = (
    "epoch keys {} are due to be destroyed and kept, because no reading of the last days confirms "
    "the clock; if it is right, run loadscape-central keys destroy"
)
_NEEDED: Final = (
    "epoch keys {} are due to be destroyed and kept, because sealed batches wait that this program "
    "cannot decode; update it, or give them up with loadscape-central keys destroy"
)
ENDS: Final = "loadscape_loader_epoch_ends_utc_seconds"
OVERDUE: Final = "loadscape_loader_epoch_keys_overdue"


class EpochGone(Exception):
    """The private half has been destroyed: what is sealed to it is closed for ever."""


class EpochMissing(Exception):
    """No private half here, and no record of its destruction: it may be brought here yet."""


class EpochKeys:
    """Private epoch keys of one folder; used by one thread."""

    def __init__(self, place: KeyPlace, metrics: MetricSet) -> None:
        """Raises KeysError if there is no folder of epoch keys or a file of it is damaged."""
        self._place = place
        self._metrics = metrics
        self._seen_ns = 0
        self._private: Mapping[bytes, bytes] = {}
        self._destroyed: frozenset[bytes] = frozenset()
        self._looked_utc_s = float("-inf")
        metrics.gauge(ENDS, "When the last epoch key of this folder ends.", {})
        metrics.gauge(OVERDUE, "Epoch keys that should have been destroyed.", {})
        self._follow()

    def private(self, kid: bytes) -> bytes:
        """The private half; raises EpochGone, EpochMissing or KeysError."""
        self._follow()
        if kid not in self._private:
            self._read()
        if kid in self._private:
            return self._private[kid]
        if kid in self._destroyed:
            raise EpochGone(f"the private key of epoch {kid.hex()} has been destroyed")
        raise EpochMissing(
            f"no private key of epoch {kid.hex()} in {self._place.epoch_dir}; bring it there, or "
            f"if it is lost: loadscape-central keys destroy --lost {kid.hex()}"
        )

    def look(
        self,
        now_utc_s: float,
        newest_reading_utc_s: Callable[[], int | None],
        needed: Callable[[], Collection[bytes]],
    ) -> bool:
        """Once a day: destroy what is due, say what will be; whether it was time to look.

        `newest_reading_utc_s` tells the end of the newest interval that was read,
        `needed` the keys that sealed batches wait for which only a newer program can decode.
        """
        if 0 <= now_utc_s - self._looked_utc_s < LOOK_EVERY_S:
            return False
        self._looked_utc_s = now_utc_s
        overdue = due(self._place, EPOCH, now_utc_s)
        if overdue and (newest_reading_utc_s() or 0) + _EVIDENCE_S < now_utc_s:
            log.warning("%s", _NO_EVIDENCE.format(_kids(overdue)))
        elif overdue:
            waited_for = needed()
            kept = [record for record in overdue if record.kid in waited_for]
            if kept:
                log.warning("%s", _NEEDED.format(_kids(kept)))
            over = [record for record in overdue if record.kid not in waited_for]
            destroy(self._place, EPOCH, over, now_utc_s)
        self._foretell(now_utc_s)
        return True

    def _foretell(self, now_utc_s: float) -> None:
        records = read_records(self._place, EPOCH)
        alive = [record for record in records if record.destroyed_utc_s is None]
        for record in alive:
            left_s = destroy_at_utc_s(record, EPOCH) - now_utc_s
            if 0 < left_s <= WARN_S:
                log.info(
                    "epoch key %s will be destroyed in %.0f days", record.kid.hex(), left_s / DAY_S
                )
        self._metrics.set(OVERDUE, len(due(self._place, EPOCH, now_utc_s)))
        self._metrics.set(ENDS, epochs_end_utc_s(self._place))

    def _follow(self) -> None:
        try:
            changed_ns = self._place.epoch_dir.stat().st_mtime_ns
        except FileNotFoundError as error:
            raise KeysError(
                f"{self._place.epoch_dir}: not there, and nothing can be opened without it; hand "
                "the loader's keys out (keys hand-out)"
            ) from error
        if changed_ns != self._seen_ns:
            self._read()
            self._seen_ns = changed_ns

    def _read(self) -> None:
        records = read_records(self._place, EPOCH)
        self._private = {
            record.kid: read_hex(path, PRIVATE_BYTES)
            for record in records
            if (path := private_file(self._place, EPOCH, record.kid)).exists()
        }
        self._destroyed = frozenset(r.kid for r in records if r.destroyed_utc_s is not None)


def epochs_end_utc_s(place: KeyPlace) -> int:
    """When the last epoch key of a folder ends, 0 if it has none; raises KeysError."""
    records = read_records(place, EPOCH)
    return max((record.not_after_utc_s for record in records if record.usable), default=0)


def _kids(records: Collection[KeyRecord]) -> str:
    return ", ".join(record.kid.hex() for record in records)
