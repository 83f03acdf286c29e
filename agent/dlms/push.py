"""Listens to a meter that speaks by itself: bytes of a line in, pushed readings out.

HDLC frames (UI, and the I frames that one maker sends without a link) are
joined to APDUs, general blocks to notifications, ciphered ones deciphered,
and the list in them is read by the one class that it fits. What cannot be
read comes out as an error with a count, never as nothing. Nothing is ever
sent. Sources: IEC 62056-46, IEC 62056-5-3 (data-notification), and what the
class files name.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.dlms.apdu.notification import Notification, Notifications
from agent.dlms.constants import obis_text
from agent.dlms.errors import AnswerMalformed, DlmsError, MeterDiffers
from agent.dlms.link.unasked import UnaskedApdus
from agent.dlms.load_profile.meter_time import MeterTime, untrusted
from agent.dlms.load_profile.scaling import Scaling, scaled
from agent.dlms.meter_class import EXPONENTS
from agent.dlms.push_class import Place, PushClass, PushedQuantity
from agent.dlms.security.cipher import PushCipher
from agent.dlms.security.settings import Keys
from agent.driver import Sample
from agent.line.port import Port
from wire.quality import Quality

LONGEST_S: Final = 3.0
"""A notification whose next frame takes longer is given up: its end was lost."""
LONGEST: Final = 1 << 16
"""Most bytes of one notification."""
_SOURCES: Final = 16
"""Most meters whose unfinished notifications are kept; a line has one as a rule."""
_LONGEST_SERIAL: Final = 48
_NAME_BYTES: Final = 6


@dataclass(frozen=True, slots=True)
class PushedReading:
    """What one list said, in the units of `Sample`."""

    model: str
    """Name of the class that the list fits."""
    at_utc_s: int | None
    """By the meter's clock; None where it says none."""
    values: Mapping[str, int]
    """Field of `Sample` -> value in Wh, varh, 0.1 V, 0.01 A or W."""
    serial: str | None
    raw: Sequence[tuple[str, Any]]
    """All that was in the list: name or position, and the value as it came."""
    flags: int = 0
    """CLOCK_UNTRUSTED where the meter doubts its own clock."""

    def sample(self, heard_utc_ms: int) -> Sample:
        """The reading as a sample of the moment when it was heard, by our own clock."""
        return Sample(at_utc_ms=heard_utc_ms, serial=self.serial, flags=self.flags, **self.values)


@dataclass(frozen=True, slots=True)
class Unread:
    """Something came and could not be read."""

    error: DlmsError
    """`ListUnknown`, `KeysMissing`, `ReplyForged`, `AnswerMalformed` and others."""
    times: int
    """How often an error of this kind has come, this one included."""


class ListUnknown(DlmsError):
    """A list fits none, or more than one, of the push classes that are looked for."""


@dataclass(frozen=True, slots=True)
class _Value:
    raw: Any
    scaling: Scaling | None = None


_List = Mapping[Place, _Value]


class PushListener:
    """One line, as one thread hears it. Sans I/O: feed it what comes."""

    def __init__(
        self, classes: Sequence[PushClass], keys: Keys | None = None, *, suite: int = 0
    ) -> None:
        """With `keys` only ciphered notifications are taken; raises ValueError for bad keys."""
        self._classes = classes
        self._cipher = None if keys is None else PushCipher(keys, suite=suite)
        self._apdus = UnaskedApdus(LONGEST)
        self._notifications: dict[bytes, Notifications] = {}
        self._last_s = -math.inf
        self._errors: Counter[str] = Counter()

    @property
    def damaged(self) -> int:
        """Frames so far whose checks were wrong."""
        return self._apdus.damaged

    def receive(self, data: bytes, now_s: float) -> Iterator[PushedReading | Unread]:
        """What `data`, heard at `now_s` (monotonic), completes."""
        if now_s - self._last_s > LONGEST_S:
            self._apdus.clear()
            self._notifications.clear()
        if data:
            self._last_s = now_s
        for sender, apdu in self._apdus.receive(data):
            try:
                if isinstance(apdu, DlmsError):
                    raise apdu
                notification = self._joined(sender, apdu)
                if notification is not None:
                    yield read_list(notification, self._classes)
            except DlmsError as error:
                kind = type(error).__name__
                self._errors[kind] += 1
                yield Unread(error, self._errors[kind])

    def _joined(self, sender: bytes, apdu: bytes) -> Notification | None:
        if sender not in self._notifications and len(self._notifications) >= _SOURCES:
            self._notifications.clear()
        reveal = None if self._cipher is None else self._cipher.reveal
        join = self._notifications.setdefault(sender, Notifications(reveal, longest=LONGEST))
        return join.receive(apdu)


def read_list(notification: Notification, classes: Sequence[PushClass]) -> PushedReading:
    """What a list says; raises ListUnknown unless one class fits, MeterDiffers, AnswerMalformed."""
    lists = _lists(notification.value)
    fitting = [
        (push_class, lists[push_class.form])
        for push_class in classes
        if push_class.form in lists and _fits(push_class, lists[push_class.form])
    ]
    if len(fitting) != 1:
        raise _unknown(lists, [push_class.name for push_class, _ in fitting], classes)
    push_class, values = fitting[0]
    return _read(push_class, values, notification.date_time)


def listen(
    port: Port,
    classes: Sequence[PushClass],
    keys: Keys | None = None,
    *,
    suite: int = 0,
    until_s: float = math.inf,
    now_s: Callable[[], float] = time.monotonic,
) -> Iterator[PushedReading | Unread]:
    """What comes on a port until `until_s` (monotonic); raises PortLost, ValueError."""
    listener = PushListener(classes, keys, suite=suite)
    while (began_s := now_s()) < until_s:
        data = port.read(1, min(until_s, began_s + LONGEST_S))
        yield from listener.receive(data, now_s())


def _lists(value: Any) -> dict[str, _List]:
    """The value of a notification in each of the forms that it can be read as."""
    if not isinstance(value, tuple | list):
        return {}
    lists: dict[str, _List] = {"positional": {at: _Value(raw) for at, raw in enumerate(value)}}
    for form, read in (("labelled", _labelled), ("pairs", _pairs), ("described", _described)):
        found = read(value)
        if found:
            lists[form] = {**found, 0: _Value(value[0])}
    return lists


def _is_name(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) == _NAME_BYTES and value[-1] == 0xFF


def _labelled(value: Sequence[Any]) -> dict[Place, _Value]:
    """Elements of name, value and, for registers, scaler and unit."""
    found: dict[Place, _Value] = {}
    for element in value:
        if not isinstance(element, tuple) or len(element) not in (2, 3) or not _is_name(element[0]):
            return {}
        scaling = None
        if len(element) == 3:
            if not isinstance(element[2], tuple) or len(element[2]) != 2:
                return {}
            scaling = Scaling.of(*element[2])
        found[element[0]] = _Value(element[1], scaling)
    return found


def _pairs(value: Sequence[Any]) -> dict[Place, _Value]:
    """Names and values in turn, after a first element that is no name (list name, or the time)."""
    at = 0 if value and _is_name(value[0]) else 1
    if len(value) < at + 2 or (len(value) - at) % 2:
        return {}
    names, values = value[at::2], value[at + 1 :: 2]
    if not all(map(_is_name, names)):
        return {}
    return {name: _Value(raw) for name, raw in zip(names, values, strict=True)}


def _described(value: Sequence[Any]) -> dict[Place, _Value]:
    """The push object list (IEC 62056-6-2, class 40) as first element, then its values.

    The list describes itself too: what it says of attribute 2 is itself, and
    has no further value; of two attributes of one object the first counts.
    """
    objects = value[0] if value else None
    if not isinstance(objects, list) or len(objects) != len(value):
        return {}
    found: dict[Place, _Value] = {}
    for described, raw in zip(objects, value, strict=True):
        if not isinstance(described, tuple) or len(described) < 2 or not _is_name(described[1]):
            return {}
        found.setdefault(described[1], _Value(raw))
    return found


def _fits(push_class: PushClass, values: _List) -> bool:
    if push_class.count is not None and len(values) != push_class.count:
        return False
    if push_class.begins and _text(values[0].raw) != push_class.begins:
        return False
    places = [push_class.serial, push_class.clock, *push_class.needs]
    for quantity in push_class.quantities.values():
        places += [quantity.place, quantity.less]
    return all(place is None or place in values for place in places)


def _read(push_class: PushClass, values: _List, date_time: bytes | None) -> PushedReading:
    clock = date_time if push_class.clock is None else values[push_class.clock].raw
    at_utc_s, flags = None, 0
    if clock is not None:
        if not isinstance(clock, bytes):
            raise AnswerMalformed(f"{push_class.name}: expected a date-time, came {clock!r}")
        meter_time = MeterTime(
            push_class.utc_offset_min, inverted_deviation=push_class.inverted_deviation
        )
        at_utc_s = meter_time.utc_s(clock)
        flags = int(Quality.CLOCK_UNTRUSTED) if untrusted(clock) else 0
    return PushedReading(
        push_class.name,
        at_utc_s,
        {
            name: _whole(push_class, name, quantity, values)
            for name, quantity in push_class.quantities.items()
        },
        None if push_class.serial is None else _serial(values[push_class.serial].raw),
        [(_place_text(place), value.raw) for place, value in values.items()],
        flags,
    )


def _whole(push_class: PushClass, name: str, quantity: PushedQuantity, values: _List) -> int:
    total = 0
    for place, sign in ((quantity.place, 1), (quantity.less, -1)):
        if place is None:
            continue
        value = values[place]
        scaling = value.scaling or Scaling(quantity.scaler, quantity.unit)
        if scaling.unit != quantity.unit:
            raise MeterDiffers(
                f"{push_class.name}: {_place_text(place)} came in {scaling.unit!r}, the class says "
                f"{quantity.unit!r} for {name}; correct the class file"
            )
        if type(value.raw) is not int:
            raise AnswerMalformed(
                f"{push_class.name}: expected a whole number for {name} "
                f"({_place_text(place)}), came {value.raw!r}"
            )
        total += sign * scaled(value.raw, scaling.factor(EXPONENTS[name]))
    return total


def _text(raw: Any) -> str:
    return raw.decode("latin-1") if isinstance(raw, bytes) else str(raw)


def _serial(raw: Any) -> str | None:
    return _text(raw).strip("\0 ")[:_LONGEST_SERIAL] or None


def _place_text(place: Place) -> str:
    return obis_text(place) if isinstance(place, bytes) else f"element {place}"


def _unknown(
    lists: Mapping[str, _List], fitting: list[str], classes: Sequence[PushClass]
) -> ListUnknown:
    form = next((form for form in ("labelled", "pairs", "described") if form in lists), "")
    values = lists.get(form) or lists.get("positional", {})
    names = ", ".join(_place_text(place) for place in list(values)[:40])
    what = f"fits {' and '.join(fitting)}" if fitting else "fits none of them"
    return ListUnknown(
        f"expected a list of {', '.join(each.name for each in classes) or 'no class'}; the "
        f"{form or 'positional'} list that came {what}; it has {len(values)} elements: "
        f"{names or 'nothing'}; write a class for it (docs/dlms.md)"
    )
