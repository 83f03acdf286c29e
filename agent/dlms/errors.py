"""What can go wrong between the agent and a DLMS meter."""

from __future__ import annotations

from agent.driver import MeterRefused, MeterSilent, ReadError


class DlmsError(ReadError):
    """A DLMS meter could not be read."""


class NoAnswer(DlmsError, MeterSilent):
    """No acceptable frame came before the deadline of the exchange."""


class LinkLost(DlmsError):
    """The meter left the link (DM or FRMR); only a new link helps."""


class LinkRefused(DlmsError, MeterRefused):
    """The meter answered SNRM with DM or FRMR."""


class AssociationRefused(DlmsError, MeterRefused):
    """The meter did not accept the association."""


class AccessRefused(DlmsError, MeterRefused):
    """The meter answered a GET with a data-access result."""

    def __init__(self, message: str, result: str) -> None:
        super().__init__(message)
        self.result = result
        """Name of the data-access result, such as `object-undefined`."""


class ServiceRefused(DlmsError, MeterRefused):
    """The meter answered with an exception-response or a confirmed-service-error."""


class AnswerMalformed(DlmsError):
    """An answer came and is not what the standard allows."""


class AnswerTooLarge(DlmsError):
    """An answer grew beyond the limit of the meter class."""


class MeterDiffers(DlmsError):
    """The meter is not as its class says: another unit, a missing column, another type."""


class CounterBehind(DlmsError, MeterRefused):
    """The meter has seen a higher invocation counter than the client's."""
