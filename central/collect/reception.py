"""What the collector does with messages, without the connection: messages in, answers out.

`take` returns its answers only after the journal's commit has reached the
disk, so an answer that is sent is always true. Batches are never opened here.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from central.collect.clones import Clones
from central.collect.fleet import Alarm, DeviceSeen, Fleet
from central.collect.gate import REASONS, Gate
from central.collect.journal import ZERO_HASH, Batch, Head, Journal, Outcome, Refusal
from central.keys.place import EnrolledDevice, KeyPlace, read_devices, read_keyset
from central.keys.receipts import ReceiptKeys
from central.metrics import MetricSet
from central.plain import plain
from central.readings.ledger import LoaderProgress
from wire import topics
from wire.clock import Clock
from wire.receipt import Nack, Receipt, sign_receipt

log = logging.getLogger("central.collect")

RETENTION_DAYS = 7
ALARM_DAYS = 7
"""How long a device's alarm is shown after its last sign."""
_MOST_NACKS = 32
_LARGEST_STATE = 16 * 1024
_ANSWER_STATE_AGAIN_S = 10.0
_SAY_REFUSALS_EVERY_S = 10.0
_PRUNE_EVERY_S = 3600.0
_TELL_AGAIN_S = 86_400.0
"""How often devices are told once more of all their batches that do not open."""
_MOST_TOLD = 1000

BATCHES = "loadscape_collector_batches_total"
REFUSED = "loadscape_collector_refused_total"
RECEIPTS = "loadscape_collector_receipts_total"
COMMITS = "loadscape_collector_commits_total"
BYTES = "loadscape_collector_bytes_total"
ALARMS = "loadscape_collector_devices_alarmed"
ONLINE = "loadscape_collector_devices_online"
UNOPENED = "loadscape_collector_unopened_told_total"


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the broker."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """One message to a device."""

    topic: str
    payload: bytes


class Reception:
    """Owns journal and device table; used by one thread."""

    def __init__(
        self,
        tenant: str,
        place: KeyPlace,
        journal: Journal,
        fleet: Fleet,
        progress: LoaderProgress,
        clock: Clock,
        metrics: MetricSet,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tenant = tenant
        self._place = place
        self._journal = journal
        self._fleet = fleet
        self._progress = progress
        self._clock = clock
        self._metrics = metrics
        self._monotonic_s = monotonic_s
        self._clones = Clones()
        self._told_upto = fleet.told_upto()
        self._tell_again_s = monotonic_s() + _TELL_AGAIN_S
        self._answered_s: dict[str, float] = {}
        self._said_s: dict[str, float] = {}
        self._pruned_s = float("-inf")
        self._keys_seen: tuple[int, ...] = ()
        self._keyset_version = 0
        _declare(metrics)
        self._follow_keys()

    def take(self, messages: Sequence[Message]) -> list[Answer]:
        """Store what is good, refuse what is not, answer what is to be answered."""
        now_utc_s = int(self._clock.now_utc_s())
        batches: list[Batch] = []
        refusals: list[Refusal] = []
        states: list[Message] = []
        for message in messages:
            if message.topic.startswith("loadscape/1/state/"):
                states.append(message)
                continue
            checked = self._gate.check(message.topic, message.payload)
            if isinstance(checked, Batch):
                batches.append(checked)
            else:
                refusals.append(checked)
        answers: list[Answer] = []
        if batches or refusals:
            outcomes = self._journal.append(batches, refusals, now_utc_s)
            self._metrics.count(COMMITS)
            answers += self._receipts(batches, outcomes, now_utc_s)
            self._count_refusals(refusals, now_utc_s)
        for state in states:
            answers += self._state(state, now_utc_s)
        return answers

    def look_around(self) -> list[Answer]:
        """About once a second while somebody listens: follow the keys, tell of unopened batches,
        save, prune."""
        answers = self._follow_keys()
        answers += self._tell_unopened()
        self._metrics.set(ONLINE, self._fleet.online)
        self._metrics.set(ALARMS, self._fleet.alarms)
        if self._monotonic_s() - self._pruned_s > _PRUNE_EVERY_S:
            self._pruned_s = self._monotonic_s()
            today = datetime.fromtimestamp(self._clock.now_utc_s(), UTC).date()
            self._fleet.end_alarms(int(self._clock.now_utc_s()) - ALARM_DAYS * 86_400)
            before = today - timedelta(days=RETENTION_DAYS)
            dropped = self._journal.prune(before, self._progress.loaded_upto())
            if dropped:
                log.info("%d days of the journal before %s dropped, all loaded", dropped, before)
        self._fleet.save()
        return answers

    def _receipts(
        self, batches: Sequence[Batch], outcomes: Sequence[Outcome], now_utc_s: int
    ) -> list[Answer]:
        nacks: dict[tuple[str, bytes], list[Nack]] = {}
        for batch, outcome in zip(batches, outcomes, strict=True):
            refused = nacks.setdefault((batch.device, batch.stream), [])
            seen = self._fleet.get(batch.device, self._cn[batch.device], now_utc_s)
            self._metrics.count(BATCHES, outcome=outcome.value)
            if outcome is Outcome.NEW:
                seen.batches += 1
                seen.last_batch_utc_s = now_utc_s
                self._metrics.count(BYTES, len(batch.sealed))
                for kid in self._followed.get(batch.kid, ()):
                    self._fleet.retire(kid)
            elif outcome in (Outcome.FORK, Outcome.GAP):
                seen.refused += 1
                refused.append(Nack(batch.seq, outcome.value))
            if outcome is Outcome.FORK:
                what = f"two batches {batch.seq} in stream {batch.stream.hex()}"
                self._alarm(seen, what, now_utc_s)
            if outcome is not Outcome.NEW:
                self._say(outcome.value, f"{batch.device} stream {batch.stream.hex()} {batch.seq}")
        return [
            self._receipt(device, stream, now_utc_s, refused[:_MOST_NACKS])
            for (device, stream), refused in nacks.items()
        ]

    def _receipt(
        self, device: str, stream: bytes, now_utc_s: int, nacks: Iterable[Nack] = ()
    ) -> Answer:
        head = self._journal.head(device, stream) or Head(0, ZERO_HASH, 0, now_utc_s)
        receipt = Receipt(
            tenant=self._tenant,
            device=device,
            stream=stream,
            upto=head.upto,
            hash_at_upto=head.hash,
            committed_at_utc_s=head.committed_at_utc_s,
            lsn=head.lsn,
            keyset_version=self._keyset_version,
            nacks=tuple(nacks),
        )
        self._metrics.count(RECEIPTS)
        signer = self._receipt_keys.signer(now_utc_s)
        return Answer(topics.down(self._cn[device]), sign_receipt(receipt, signer))

    def _count_refusals(self, refusals: Sequence[Refusal], now_utc_s: int) -> None:
        for refusal in refusals:
            self._metrics.count(BATCHES, outcome="refused")
            self._metrics.count(REFUSED, reason=refusal.reason)
            self._say(refusal.reason, f"{refusal.topic}: {refusal.detail}")
            device = self._device_by_cn.get(refusal.topic.rpartition("/")[2])
            if device is not None:
                self._fleet.get(device, self._cn[device], now_utc_s).refused += 1

    def _state(self, message: Message, now_utc_s: int) -> list[Answer]:
        cn = message.topic.rpartition("/")[2]
        device = self._device_by_cn.get(cn)
        if device is None or len(message.payload) > _LARGEST_STATE:
            self._say("state", f"{message.topic}: no enrolled device or too large")
            return []
        try:
            state = json.loads(message.payload, parse_constant=_no_number)
            # Others write it as JSON again: no infinity, no half of a surrogate pair.
            json.dumps(state, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            self._say("state", f"{message.topic}: not JSON ({error})")
            return []
        if not isinstance(state, dict):
            self._say("state", f"{message.topic}: not a JSON object")
            return []
        seen = self._fleet.get(device, cn, now_utc_s)
        before, was_online = seen.state or {}, seen.online
        seen.online = state.get("online") is True
        if not seen.online:
            return []
        seen.state = state
        born = not was_online or before.get("boot") != state.get("boot")
        if self._clones.birth(device, str(state.get("boot")), self._monotonic_s()):
            self._alarm(seen, "two starts of it come and go in turn", now_utc_s)
        if isinstance(told := state.get("alarms"), list) and told:
            what = plain(", ".join(map(str, told)))[:100]
            self._alarm(seen, f"its own alarms: {what}", now_utc_s)
        return self._greet(device, state, born, now_utc_s)

    def _greet(
        self, device: str, state: dict[str, Any], born: bool, now_utc_s: int
    ) -> list[Answer]:
        """The current receipt, and the keyset when the device's is older."""
        try:
            stream = bytes.fromhex(state["stream"])
            following, keyset = int(state["next"]), int(state.get("keyset") or 0)
        except (KeyError, TypeError, ValueError):
            self._say("state", f"{device}: a state without stream and next")
            return []
        head = self._journal.head(device, stream) or Head(0, ZERO_HASH, 0, now_utc_s)
        behind = (following, state.get("head")) != (head.upto + 1, head.hash.hex())
        waited_s = self._monotonic_s() - self._answered_s.get(device, float("-inf"))
        if len(stream) != 8 or not (born or waited_s > _ANSWER_STATE_AGAIN_S):
            return []
        answers = []
        if keyset > self._keyset_version:
            detail = f"{device} knows keyset version {keyset}, here lies {self._keyset_version}"
            self._say("keyset", f"{detail}; hand the newer out (keys hand-out)", "alarm (%s): %s")
        if keyset < self._keyset_version:
            answers.append(Answer(topics.down(self._cn[device]), self._keyset))
        if born:
            answers += self._told_at_birth(device, stream, now_utc_s)
        elif behind:
            answers.append(self._receipt(device, stream, now_utc_s))
        if answers:
            self._answered_s[device] = self._monotonic_s()
        return answers

    def _told_at_birth(self, device: str, stream: bytes, now_utc_s: int) -> list[Answer]:
        """The stream's receipt, and once more what of the device's batches does not open.

        What was told before may not have reached it; what it has sent again it passes over.
        """
        nacks: dict[bytes, list[Nack]] = {stream: []}
        for unopened in self._progress.unopened_of(device, _MOST_NACKS):
            nacks.setdefault(unopened.stream, []).append(Nack(unopened.seq, unopened.reason))
        return [self._receipt(device, named, now_utc_s, these) for named, these in nacks.items()]

    def _alarm(self, seen: DeviceSeen, what: str, now_utc_s: int) -> None:
        """Its card was restored from a copy, or another concentrator runs with its keys."""
        seen.alarm = Alarm(now_utc_s, what)
        detail = f"{seen.device}: {what}; if nobody restored its card, revoke it"
        self._say("clone", detail, "alarm (%s): %s")

    def _follow_keys(self) -> list[Answer]:
        """Read keyset and devices again when their files changed; a newer keyset goes to all."""
        files = (self._place.devices, self._place.keyset, self._place.receipt_dir)
        present = tuple(file.stat().st_mtime_ns for file in files)
        if present == self._keys_seen:
            return []
        first = not self._keys_seen
        devices = read_devices(self._place)
        self._gate = Gate(self._tenant, devices, self._fleet.retired)
        self._followed = _followed(devices.values())
        self._cn = {name: device.cn for name, device in devices.items()}
        self._device_by_cn = {device.cn: name for name, device in devices.items()}
        known = 0 if first else self._keyset_version
        keyset = read_keyset(self._place)
        self._receipt_keys = ReceiptKeys(self._place, keyset)
        self._keyset_version = keyset.version
        self._keyset = self._place.keyset.read_bytes()
        self._keys_seen = present
        if first or self._keyset_version == known:
            return []
        log.info("keyset version %d goes to all devices", self._keyset_version)
        return [
            Answer(topics.down(device.cn), self._keyset)
            for device in devices.values()
            if device.active
        ]

    def _tell_unopened(self) -> list[Answer]:
        """Ask again for batches that the loader could not open or decode."""
        if self._monotonic_s() >= self._tell_again_s:
            self._tell_again_s = self._monotonic_s() + _TELL_AGAIN_S
            self._told_upto = 0
        found = self._progress.unopened_after(self._told_upto)[:_MOST_TOLD]
        if not found:
            return []
        nacks: dict[tuple[str, bytes], list[Nack]] = {}
        for unopened in found:
            if unopened.device in self._cn:
                told = nacks.setdefault((unopened.device, unopened.stream), [])
                told.append(Nack(unopened.seq, unopened.reason))
            self._metrics.count(UNOPENED)
            self._say(unopened.reason, f"{unopened.device} batch {unopened.seq}: {unopened.detail}")
        self._told_upto = found[-1].lsn
        self._fleet.tell_upto(self._told_upto)
        now_utc_s = int(self._clock.now_utc_s())
        return [
            self._receipt(device, stream, now_utc_s, told[first : first + _MOST_NACKS])
            for (device, stream), told in nacks.items()
            for first in range(0, len(told), _MOST_NACKS)
        ]

    def _say(self, reason: str, detail: str, form: str = "not taken (%s): %s") -> None:
        """Log the first of a kind, then at most one per 10 s: nobody may flood the log."""
        now_s = self._monotonic_s()
        if now_s - self._said_s.get(reason, float("-inf")) >= _SAY_REFUSALS_EVERY_S:
            self._said_s[reason] = now_s
            log.warning(form, reason, plain(detail))


def _followed(devices: Iterable[EnrolledDevice]) -> dict[bytes, list[bytes]]:
    """For each key that follows others, those: they count no more once it signs."""
    found: dict[bytes, list[bytes]] = {}
    for device in devices:
        kids = [key.kid for key in device.under_each_key()]
        found |= {kid: kids[:at] for at, kid in enumerate(kids) if at}
    return found


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")


def _declare(metrics: MetricSet) -> None:
    outcomes = [{"outcome": outcome.value} for outcome in Outcome]
    metrics.counter(BATCHES, "Batches by what became of them.", *outcomes, {"outcome": "refused"})
    metrics.counter(
        REFUSED, "Refused batches by reason.", *({"reason": reason} for reason in REASONS)
    )
    metrics.counter(RECEIPTS, "Receipts signed.", {})
    metrics.counter(COMMITS, "Durable commits of the journal.", {})
    metrics.counter(BYTES, "Sealed bytes stored.", {})
    metrics.counter(UNOPENED, "Batches asked for again because they did not open.", {})
    metrics.gauge(ALARMS, "Devices that may have been cloned or restored from a copy.", {})
    metrics.gauge(ONLINE, "Devices that say they are online.", {})
