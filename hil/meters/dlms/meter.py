"""One simulated DLMS meter: its face, its model, and the habits by which meters differ."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agent.dlms.constants import Tag
from hil.meters.dlms.clock import MeterClock, Zone
from hil.meters.dlms.event_log import (
    CLOCK_ADJUSTED_FROM,
    CLOCK_ADJUSTED_TO,
    POWER_DOWN,
    POWER_UP,
    EventLog,
)
from hil.meters.dlms.names import LOGS
from hil.meters.dlms.quirks import check_quirks
from hil.meters.dlms.security import MeterSecurity
from hil.meters.password import LLS_PASSWORD
from hil.meters.shown import Shown

PERIOD_S: Final = 900


@dataclass(frozen=True, slots=True)
class Model:
    """What differs between the models: the name, how wide energies are, ratios that it tells."""

    device_name: str
    energy_tag: int
    ratios: tuple[int, int] | None = None
    """Of the current and the voltage transformers; its registers are secondary values."""


MODELS: Final = {
    "idis_residential": Model("LSC1000000000001", Tag.U32),
    "transformer_check": Model("LSC2000000000001", Tag.U64),
    "ct_meter": Model("LSC3000000000001", Tag.U32, ratios=(40, 1)),
}


@dataclass(slots=True)
class DlmsMeter:
    """One meter of the bench. What changes in its life (clock, logs, counters) is kept here."""

    shown: Shown
    model: str = "idis_residential"
    password: bytes | None = LLS_PASSWORD
    """LLS password; None = the meter asks for none."""
    security: MeterSecurity | None = None
    """Keys and what it demands with them; None = no HLS, no ciphering."""
    clock: MeterClock = field(default_factory=MeterClock)
    settable: bool = False
    """Whether clock and customer's text can be set, and methods be called."""
    utc_offset_min: int = 60
    """Of standard time."""
    daylight_saving: bool = False
    """Whether it goes over to summer time."""
    keep_days: int = 60
    status_of: Callable[[int], int] | None = None
    """Status byte of the row that ends at this instant; None = 0, and what the meter saw."""
    outages: list[tuple[float, float]] = field(default_factory=list)
    """True instants from and until which it had no power; it wrote no rows meanwhile."""
    captured_at: list[float] = field(default_factory=list)
    """True instants at which a client made it write a row beside those of the period."""
    lists: bool = True
    """Whether GET with list is offered."""
    general_blocks: bool = False
    """Whether general block transfer is offered."""
    max_pdu: int = 0xFFFF
    """Longest APDU that the meter sends, bytes."""
    max_request: int = 1024
    """Longest APDU that it takes, bytes."""
    longest_info: int = 2030
    window: int = 7
    """Frames that the meter sends in a row at most."""
    client_window: int = 1
    """Frames that the meter takes in a row at most, 1-7."""
    deaf_to_others: bool = False
    """Whether it answers no other client while one is connected."""
    inactivity_s: float = 120.0
    """Real seconds of silence after which it drops a link (IEC 62056-6-2, class 23)."""
    customer_text: bytes = b""
    quirks: frozenset[str] = frozenset()
    """Names of `quirks.QUIRKS`."""
    logs: dict[str, EventLog] = field(default_factory=lambda: {name: EventLog() for name in LOGS})

    def __post_init__(self) -> None:
        """Raises ValueError for quirks that are none."""
        check_quirks(self.quirks)

    @property
    def zone(self) -> Zone:
        """How it writes time."""
        return Zone(self.utc_offset_min, self.quirks, self.daylight_saving)

    def log_event(self, log: str, code: int, at_utc_s: float) -> None:
        """Writes an entry, stamped as the meter's clock shows at a true instant."""
        self.logs[log].write(math.floor(self.clock.shown_s(at_utc_s)), code)

    def lose_power(self, from_utc_s: float, until_utc_s: float) -> None:
        """No power between two true instants: no rows, and two entries in the standard log."""
        self.outages.append((from_utc_s, until_utc_s))
        self.log_event(*POWER_DOWN, from_utc_s)
        self.log_event(*POWER_UP, until_utc_s)

    def set_clock(self, shown_s: float, at_utc_s: float) -> None:
        """At a true instant the clock is made to show `shown_s`; the standard log says so twice."""
        self.log_event(*CLOCK_ADJUSTED_FROM, at_utc_s)
        self.clock.set(shown_s, at_utc_s)
        self.log_event(*CLOCK_ADJUSTED_TO, at_utc_s)
