"""What can go wrong between the agent and a DLMS meter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agent.driver import MeterRefused, MeterSilent, ReadError


class DlmsError(ReadError):
    """A DLMS meter could not be read."""


class NoAnswer(DlmsError, MeterSilent):
    """No acceptable frame came before the deadline of the exchange."""


class AssociationSilent(NoAnswer):
    """The link came up, and the meter said nothing to the association."""


class LinkLost(DlmsError):
    """The meter left the link (DM or FRMR); only a new link helps."""


class LinkRefused(DlmsError, MeterRefused):
    """The meter answered SNRM with DM or FRMR."""


class AssociationRefused(DlmsError, MeterRefused):
    """The meter did not accept the association."""


class AccessRefused(DlmsError, MeterRefused):
    """The meter answered a GET, SET or ACTION with a result other than success."""

    def __init__(self, message: str, result: str) -> None:
        super().__init__(message)
        self.result = result
        """Name of the data-access or action result, such as `object-undefined`."""


class ServiceRefused(DlmsError, MeterRefused):
    """The meter answered with an exception-response or a confirmed-service-error."""


class CounterBehind(DlmsError, MeterRefused):
    """The meter has seen this client's invocation counter or a higher one, or cannot decipher us.

    The meter says so without any protection: read its counter before going on.
    """

    def __init__(self, message: str, expected: int | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        """Lowest counter that the meter says it would take; None where it did not say."""


class ProtectionFailed(DlmsError):
    """An answer lacks the protection that the association demands; nothing of it was used."""


class ReplyUnprotected(ProtectionFailed):
    """An answer came in the clear, or with less protection than was demanded."""


class ReplyForged(ProtectionFailed):
    """The tag of an answer is wrong: damaged, made by someone else, or with other keys."""


class KeysMissing(ProtectionFailed):
    """Something came ciphered from a meter for which there are no keys."""


class ReplyReplayed(ProtectionFailed):
    """The invocation counter of an answer did not rise: it was heard before."""


class MeterNotAuthentic(ProtectionFailed):
    """The meter did not prove that it has the keys."""


class RequestTooLong(DlmsError):
    """A request is longer than the meter takes and may not be cut into blocks."""


class AnswerMalformed(DlmsError):
    """An answer came and is not what the standard allows."""


class AnswerTooLarge(DlmsError):
    """An answer grew beyond the limit of the meter class."""


class MeterDiffers(DlmsError):
    """The meter is not as its class says: another unit, a missing column, another type."""


class CountersExhausted(DlmsError):
    """A key's 2^32 - 1 invocation counters are used up; only new keys help."""


class CounterImplausible(DlmsError):
    """The counter that a meter shows without protection is too far above ours to be believed."""


class CountersDamaged(DlmsError):
    """The file of invocation counters is none; a value from it could be one that was used."""


class CountersUnavailable(DlmsError):
    """Invocation counters cannot be reserved durably now: disk full, read-only, or in use."""


@contextmanager
def said_by(meter: str) -> Iterator[None]:
    """Puts the meter's name before the message of a DlmsError that does not know it."""
    try:
        yield
    except DlmsError as error:
        if not str(error).startswith(meter):
            error.args = (f"{meter}: {error}", *error.args[1:])
        raise
