"""What secures one association: mechanism, suite, keys and the counter that must never repeat.

Source: DLMS UA Green Book ed. 8, 9.2 (security suites, authentication mechanisms).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

Mechanism = Literal["none", "lls", "hls-gmac"]
"""How the client shows who it is: not at all, a password, or both sides by GMAC (mechanism 5)."""

Ciphering = Literal["none", "global", "dedicated", "general-global"]
"""How APDUs are wrapped: service-specific with the global or a dedicated key, or general-glo."""


class InvocationCounter(Protocol):
    """The client's counter for one key; each value is durable before it is handed out."""

    def next(self) -> int:
        """A value that was never handed out before, 1 to 2^32 - 1; raises CountersExhausted."""
        ...

    def raise_above(self, value: int) -> None:
        """Hand out only values above `value` from now on, as the meter has seen that one.

        Raises CounterImplausible for a value that nobody should be believed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Keys:
    """Secret keys of one association: 16 bytes each in suite 0, 32 in suite 2."""

    encryption: bytes = field(repr=False)
    """Global unicast encryption key (GUEK)."""
    authentication: bytes = field(repr=False)
    """Global authentication key (GAK)."""


@dataclass(frozen=True, slots=True)
class Security:
    """Everything that one association needs to be secure; the default is none."""

    mechanism: Mechanism = "none"
    ciphering: Ciphering = "none"
    suite: Literal[0, 2] = 0
    password: bytes | None = field(default=None, repr=False)
    keys: Keys | None = field(default=None, repr=False)
    client_title: bytes = b""
    """System title of this client, 8 bytes."""
    counter: InvocationCounter | None = None
