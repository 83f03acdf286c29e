"""One concentrator without lines and network thread: the real custody, cutter and sender."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.sending import Sending
from agent.store.event_table import EventRows, LogMark
from agent.store.rows import MeterEpoch, MeterRows
from central.collect.reception import Message
from hil.receipts.bench import CN, BenchClock, Templates, copy_folder, open_custody
from hil.receipts.broker import Broker
from wire import topics
from wire.cose import read_sign1
from wire.events import Event
from wire.keyset import KEYSET_CONTENT
from wire.receipt import verify_receipt

METERS = ("m1", "m2", "m3")
_SCHEMA_ID, _CHANNELS = 1, 0b111111

Reading = tuple[str, int]
"""A meter and the end of an interval, UTC s."""


def truth(meter: str, end_utc_s: int) -> tuple[int, ...]:
    """What the meter says of the interval, whenever it is asked."""
    wh = end_utc_s * 7 + METERS.index(meter) * 1_000_003
    return wh, 0, wh // 3, 2300, 100, 2


@dataclass(slots=True)
class Known:
    """What was acknowledged to the lines."""

    readings: set[Reading] = field(default_factory=set)
    events: set[Event] = field(default_factory=set)

    def copy(self) -> Known:
        return Known(set(self.readings), set(self.events))


@dataclass(frozen=True, slots=True)
class Image:
    """A copy of the card, and what was known then."""

    card: Path
    known: Known


class Concentrator:
    """Its card survives power cuts, its memory does not."""

    def __init__(self, templates: Templates, card: Path, clock: BenchClock, *, bare: bool) -> None:
        self._templates = templates
        self._clock = clock
        self._bare = bare
        self.card = card
        self.known = Known()
        self.on_the_way: list[tuple[Message, tuple[bytes, int] | None]] = []
        """Published, not yet PUBACKed: in the memory of the MQTT client."""
        self._shown = ""
        self.start()

    def start(self) -> None:
        """Power comes; the connection does not."""
        self.boot = os.urandom(8)
        self.custody, self.keyring, self.faults = open_custody(
            self._templates, self.card, self._clock, bare=self._bare, boot=self.boot
        )
        self.sending = Sending(lambda count: None, random.Random(1).uniform)
        self.on_the_way.clear()

    def off(self) -> None:
        """The power goes; what is on the card stays. Opening it is up to `start`."""
        left = copy_folder(self.card)
        self.custody.close()
        shutil.rmtree(self.card)
        self.card = left

    def image(self) -> Image:
        """Somebody copies the card."""
        return Image(copy_folder(self.card), self.known.copy())

    def restore(self, image: Image, *, database_only: bool) -> None:
        """Somebody puts the copy in; with `database_only` the other files stay."""
        before = self.card
        self.card = copy_folder(image.card)
        if database_only:
            for path in before.iterdir():
                if not path.name.startswith("agent.db"):
                    shutil.copy(path, self.card / path.name)
        shutil.rmtree(before)
        self.known = image.known.copy()

    # --- what the lines hand over

    def read(self, meters: Iterable[str], end_utc_s: int) -> None:
        """Commit an edge, and cut it, as the writer does."""
        groups = [
            MeterRows(
                MeterEpoch(meter, f"s{meter}", _SCHEMA_ID, _CHANNELS),
                [(end_utc_s, truth(meter, end_utc_s))],
            )
            for meter in meters
        ]
        self.custody.commit(groups, cut=True)
        self.known.readings |= {(group.epoch.meter, end_utc_s) for group in groups}
        if self.custody.log_uncut:
            self.custody.log((), cut=True)
        self.custody.prune()

    def log_event(self, number: int) -> None:
        """Commit an entry of a meter's event log."""
        at_utc_s = int(self._clock.utc_s)
        event = Event(METERS[0], "sm1", "standard", at_utc_s, number % 1000, "", 0)
        rows = EventRows([event], METERS[0], "sm1", "standard", LogMark(at_utc_s))
        self.custody.commit_events([rows])
        self.known.events.add(event)

    # --- the connection

    def connect(self) -> None:
        """A session begins: what had no PUBACK is sent again by the client, then the birth."""
        self.sending.connect(self.custody.view(), self._clock.monotonic_s())
        self._shown = ""
        self._show_state()

    def tick(self) -> None:
        """What the agent's main thread does now and then."""
        self.custody.cut_due()
        if not self.sending.connected:
            self.connect()
        view = self.custody.view()
        wanted = self.sending.want(view, self._clock.monotonic_s())
        if wanted is not None:
            found = self.custody.sealed_after(wanted.stream, wanted.after, wanted.limit)
            if self.sending.fetched(wanted.stream):
                for seq, sealed in found:
                    if self.sending.is_due(seq):
                        message = Message(topics.up(CN), sealed)
                        self.on_the_way.append((message, (wanted.stream, seq)))
                    self.sending.sent(seq, self._clock.monotonic_s())
        self._show_state()

    def puback(self, count: int, broker: Broker) -> None:
        """The broker takes the first `count` messages and says so."""
        taken, self.on_the_way = self.on_the_way[:count], self.on_the_way[count:]
        for message, batch in taken:
            broker.take_up(message)
            if batch is not None:
                self.sending.acknowledged(*batch)
                self.acknowledged(*batch)

    def acknowledged(self, stream: bytes, seq: int) -> None:
        """A PUBACK means nothing more."""

    def hear(self, data: bytes) -> None:
        """A message from central; one that does not verify is passed over."""
        with suppress(ValueError):
            self._believe(data)

    def _believe(self, data: bytes) -> None:
        if read_sign1(data).content == KEYSET_CONTENT:
            self.keyring.accept(data)
            return
        receipt = verify_receipt(data, self.keyring.keyset)
        self.custody.honour(receipt)
        self.sending.answered(receipt, self._clock.monotonic_s())

    def _show_state(self) -> None:
        view = self.custody.view()
        state = json.dumps(
            {
                "online": True,
                "boot": self.boot.hex(),
                "stream": view.stream.hex(),
                "next": view.last_seq + 1,
                "head": view.head_hash.hex(),
                "keyset": self.keyring.version,
            }
        )
        if state != self._shown:
            self._shown = state
            self.on_the_way.append((Message(topics.state(CN), state.encode()), None))
