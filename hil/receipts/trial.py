"""One schedule from its first step to the calm after it, and what came of it.

What the agent's lines were told is committed must be at the centre in the end,
each reading with one value and each batch once, whatever happened between.
Readings that only a card held which was taken out are not asked for.
"""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.store.identity import NO_HASH
from hil.receipts.bench import INTERVAL_S, BenchClock, Templates
from hil.receipts.broker import Broker, drop, repeat, replay, swap
from hil.receipts.centre import Centre
from hil.receipts.concentrator import METERS, Concentrator, Image, truth
from hil.receipts.cuts import PowerCut, cut_after
from hil.receipts.schedule import Schedule, Step

_CALM_ROUNDS = 400
_CALM_DAYS = 1
_DAY_S = 86_400.0
_QUIET_ROUNDS = 2
_DAYS_S = 2.5 * 86_400


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is wrong after a schedule; all zero and false if nothing is."""

    seed: int
    lost: int
    """Readings and events that were acknowledged and are not at the centre."""
    double: int
    """Batches of one number that are there twice, and readings with two values."""
    stuck: bool
    """Whether batches wait for a receipt though nothing disturbs any more."""

    @property
    def wrong(self) -> bool:
        """Whether the protocol broke its promise."""
        return bool(self.lost or self.double or self.stuck)


class Trial:
    """One concentrator, one broker, one centre."""

    concentrator_kind: type[Concentrator] = Concentrator
    centre_kind: type[Centre] = Centre

    def __init__(self, templates: Templates, schedule: Schedule) -> None:
        self._schedule = schedule
        self._folder = templates.root / f"trial-{uuid.uuid4().hex}"
        self._folder.mkdir()
        card, keys = self._folder / "card", templates.keys
        shutil.copytree(templates.card, card)
        if not schedule.bare:
            keys = self._folder / "keys"
            shutil.copytree(templates.keys, keys)
        self.clock = BenchClock()
        self.broker = Broker()
        self.concentrator = self.concentrator_kind(templates, card, self.clock, bare=schedule.bare)
        self.centre = self.centre_kind(keys, self._folder / "centre", self.clock)
        self._images: list[Image] = []
        self._do: Mapping[str, Callable[[int], None]] = {
            "read": self._read,
            "late": self._late,
            "event": lambda number: self.concentrator.log_event(number),
            "flow": lambda number: self._flow(),
            "send": lambda number: self.concentrator.tick(),
            "puback": lambda number: self.concentrator.puback(number % 5, self.broker),
            "take": self._take,
            "hear": self._hear,
            "look": lambda number: self._look(),
            "cut": lambda number: self.concentrator.sending.disconnect(),
            "reconnect": lambda number: self.concentrator.connect(),
            "wipe": lambda number: self._wipe(),
            "drop_up": lambda number: drop(self.broker.up, number),
            "drop_down": lambda number: drop(self.broker.down, number),
            "repeat_up": lambda number: repeat(self.broker.up, number),
            "repeat_down": lambda number: repeat(self.broker.down, number),
            "swap_up": lambda number: swap(self.broker.up, number),
            "swap_down": lambda number: swap(self.broker.down, number),
            "replay_up": lambda n: replay(self.broker.up, self.broker.passed_up, n),
            "replay_down": lambda n: replay(self.broker.down, self.broker.passed_down, n),
            "power_cut": lambda number: self._agent_off(),
            "central_cut": self._central_cut,
            "image": lambda number: self._images.append(self.concentrator.image()),
            "restore": lambda number: self._restore(number, database_only=False),
            "restore_database": lambda number: self._restore(number, database_only=True),
            "rotate": lambda number: self.centre.rotate(),
            "destroy": lambda number: self.centre.destroy_oldest_epoch(),
            "days": lambda number: self._days(),
        }

    def run(self) -> Outcome:
        """All steps, then calm, then the count."""
        try:
            for step in self._schedule.steps:
                self._step(step)
            if self._schedule.bare:
                self._days()
            return self._judge(stuck=not self._calm())
        finally:
            self.concentrator.custody.close()
            self.centre.close()
            shutil.rmtree(self._folder)

    def _step(self, step: Step) -> None:
        self.clock.pass_(step.wait_s)
        try:
            with cut_after(step.cut):
                self._do[step.kind](step.number)
        except PowerCut:
            self._agent_off()

    # --- steps

    def _read(self, number: int) -> None:
        self.clock.pass_(INTERVAL_S)
        chosen = [meter for bit, meter in enumerate(METERS) if number >> bit & 1] or METERS[:1]
        self.concentrator.read(chosen, self._newest_end())

    def _late(self, number: int) -> None:
        """A meter's memory gives what was missed, or what a restored card lacks."""
        end = self._newest_end() - number % 8 * INTERVAL_S
        self.concentrator.read([METERS[number % len(METERS)]], end)

    def _newest_end(self) -> int:
        return int(self.clock.utc_s) // INTERVAL_S * INTERVAL_S

    def _flow(self) -> None:
        """A while without disturbance."""
        for _ in range(2):
            self._round()
            self.clock.pass_(3.0)

    def _take(self, number: int) -> None:
        count = 1 + number % 6
        messages = self.broker.up[:count]
        answers = self.centre.take(messages)
        del self.broker.up[:count]
        for answer in answers:
            self.broker.take_down(answer.payload)

    def _hear(self, number: int) -> None:
        for _ in range(1 + number % 4):
            if self.broker.down and self.concentrator.sending.connected:
                self.concentrator.hear(self.broker.down.pop(0))

    def _look(self) -> None:
        self.centre.load()
        for answer in self.centre.look_around():
            self.broker.take_down(answer.payload)

    def _wipe(self) -> None:
        self.broker.wipe()
        self.concentrator.sending.disconnect()

    def _agent_off(self) -> None:
        self.concentrator.off()
        self.concentrator.start()

    def _central_cut(self, number: int) -> None:
        """The collector's machine goes off, often before it has answered."""
        if number % 2 and self.broker.up:
            self.centre.take(self.broker.up[: 1 + number % 5])
        self.centre.power_cut()

    def _restore(self, number: int, *, database_only: bool) -> None:
        if not self._images:
            return
        self.concentrator.custody.close()
        self.concentrator.restore(
            self._images[number % len(self._images)], database_only=database_only
        )
        self.concentrator.start()

    def _days(self) -> None:
        """So long that a card without history forgets all that has a receipt."""
        self.clock.pass_(_DAYS_S)
        self.concentrator.custody.prune()

    # --- the end

    def _calm(self) -> bool:
        """Let everything through until nothing moves, also a day later, when the centre tells
        once more what it could not open; whether nothing waits then."""
        for _ in range(_CALM_DAYS):
            if not self._settled():
                return False
            self.clock.pass_(_DAY_S)
        return self._settled()

    def _settled(self) -> bool:
        quiet = 0
        for _ in range(_CALM_ROUNDS):
            self._look()
            moved = self._round()
            self.clock.pass_(20.0)
            waiting = self.concentrator.custody.view().waiting
            quiet = 0 if moved or waiting else quiet + 1
            if quiet >= _QUIET_ROUNDS:
                return True
        return False

    def _round(self) -> bool:
        """Everybody does all that there is to do; whether there was anything."""
        agent, broker = self.concentrator, self.broker
        agent.tick()
        moved = bool(agent.on_the_way or broker.up or broker.down)
        agent.puback(len(agent.on_the_way), broker)
        while broker.up:
            self._take(5)
        moved |= bool(broker.down)
        while broker.down:
            agent.hear(broker.down.pop(0))
        return moved

    def _judge(self, *, stuck: bool) -> Outcome:
        self.centre.load()
        known, centre = self.concentrator.known, self.centre
        lost = len(known.readings - centre.readings.keys()) + len(known.events - centre.events)
        wrong = sum(values != {truth(*key)} for key, values in centre.readings.items())
        return Outcome(self._schedule.seed, lost, wrong + self._broken_links(), stuck)

    def _broken_links(self) -> int:
        """Batches that do not follow the one before in their stream, or come twice."""
        heads: dict[bytes, tuple[int, bytes]] = {}
        broken = 0
        numbers = Counter((batch.stream, batch.seq) for batch in self.centre.journaled())
        for batch in self.centre.journaled():
            seq, hash_ = heads.get(batch.stream, (0, NO_HASH))
            broken += (batch.seq, batch.prev) != (seq + 1, hash_)
            heads[batch.stream] = (batch.seq, batch.hash)
        return broken + sum(count - 1 for count in numbers.values())
