"""How a meter says no: exception-response, confirmed-service-error, data-access-result."""

from __future__ import annotations

from agent.dlms.constants import DATA_ACCESS_RESULTS, SERVICE_ERRORS, STATE_ERRORS, Apdu
from agent.dlms.errors import ServiceRefused


def refuse_errors(apdu: bytes) -> None:
    if apdu[:1] == bytes([Apdu.EXCEPTION_RESPONSE]) and len(apdu) >= 3:
        raise ServiceRefused(
            f"the meter answered with an exception: {named(STATE_ERRORS, apdu[1])}, "
            f"{named(SERVICE_ERRORS, apdu[2])}"
        )
    if apdu[:1] == bytes([Apdu.CONFIRMED_SERVICE_ERROR]):
        raise ServiceRefused(f"the meter answered with a confirmed-service-error {apdu.hex()}")


def result_name(result: int) -> str:
    """Name of a data-access result."""
    return named(DATA_ACCESS_RESULTS, result)


def named(names: dict[int, str], code: int) -> str:
    return f"{names.get(code, 'unknown')} ({code})"
