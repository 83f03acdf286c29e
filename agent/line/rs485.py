"""RS-485 by the kernel: it holds the driver's enable line (RTS) while it sends.

For UARTs whose transceiver does not switch direction by itself. The kernel
does it from the interrupt that knows when the last stop bit is out; a program
cannot know. Adapters with automatic direction need none of this.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rs485:
    """How the kernel drives RTS (`struct serial_rs485` of linux/serial.h)."""

    rts_high_while_sending: bool = True
    before_ms: int = 0
    """How long RTS is set before the first bit, ms."""
    after_ms: int = 0
    """How long RTS stays set after the last bit, ms."""

    def __post_init__(self) -> None:
        for name, value in (("before_ms", self.before_ms), ("after_ms", self.after_ms)):
            if not 0 <= value <= 100:
                raise ValueError(f"{name} {value}: expected 0..100 ms, the kernel takes no more")
