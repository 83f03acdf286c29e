"""Logical names of the bench's meters (IEC 62056-6-1)."""

from __future__ import annotations

from typing import Final

from agent.dlms.constants import obis

CLOCK: Final = obis("0.0.1.0.0.255")
SERIAL: Final = obis("0.0.96.1.0.255")
CUSTOMER_TEXT: Final = obis("0.0.96.13.0.255")
DEVICE_NAME: Final = obis("0.0.42.0.0.255")
ASSOCIATION: Final = obis("0.0.40.0.0.255")
SECURITY_SETUP: Final = obis("0.0.43.0.0.255")
COUNTER: Final = obis("0.0.43.1.0.255")
STATUS: Final = obis("0.0.96.10.1.255")
LOAD_PROFILE: Final = obis("1.0.99.1.0.255")
CURRENT_RATIO: Final = obis("1.0.0.4.2.255")
VOLTAGE_RATIO: Final = obis("1.0.0.4.3.255")
LOGS: Final = {
    "standard": obis("0.0.99.98.0.255"),
    "fraud": obis("0.0.99.98.1.255"),
    "control": obis("0.0.99.98.2.255"),
    "power_quality": obis("0.0.99.98.4.255"),
}


def event_code(log: bytes) -> bytes:
    """The object that holds the code of a log's newest entry: 0.0.96.11.x.255."""
    return bytes([0, 0, 96, 11, log[4], 255])


IMPORT: Final = obis("1.0.1.8.0.255")
EXPORT: Final = obis("1.0.2.8.0.255")
REACTIVE: Final = obis("1.0.3.8.0.255")
QUADRANTS: Final = (obis("1.0.5.8.0.255"), obis("1.0.6.8.0.255"))
VOLTAGE: Final = obis("1.0.32.7.0.255")
CURRENT: Final = obis("1.0.31.7.0.255")
POWER_IN: Final = obis("1.0.1.7.0.255")
MAX_DEMAND: Final = obis("1.0.1.6.0.255")
RELAY: Final = obis("0.0.96.3.10.255")
POWER_OUT: Final = obis("1.0.2.7.0.255")
FREQUENCY: Final = obis("1.0.14.7.0.255")
MEAN_VOLTAGE: Final = obis("1.0.32.24.0.255")
MEAN_CURRENT: Final = obis("1.0.31.24.0.255")
