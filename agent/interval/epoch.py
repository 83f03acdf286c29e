"""What a meter epoch is called: the serial number, or how often an unnamed meter broke.

A meter that tells no serial number and has none in the configuration has the
empty text. When its counters prove that what stands there now cannot be what
stood there before, the epochs that follow are called `?2`, `?3` and so on,
behind the serial number if there is one. The same name with a number stands for
a meter that shows other counters than before.
"""

from __future__ import annotations

_MARK = "?"


def given_serial(text: str) -> str:
    """The serial number in an epoch's name, "" if it has none."""
    head, mark, number = text.rpartition(_MARK)
    return head if mark and number.isdecimal() else text


def next_by_evidence(text: str) -> str:
    """The name of the epoch after `text`, opened because of what the counters show."""
    given = given_serial(text)
    number = 1 if given == text else int(text.rpartition(_MARK)[2])
    return f"{given}{_MARK}{number + 1}"


def named(text: str, *, told: str | None, by_hand: str) -> str:
    """The present epoch's name, by what the meter tells or else what was set by hand.

    It stays where the meter tells nothing, or the serial number that it has already.
    """
    if told is not None:
        return text if told == given_serial(text) else told
    if by_hand and by_hand not in (text, given_serial(text)):
        return by_hand
    return text
