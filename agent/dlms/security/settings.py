"""What secures one association: mechanism, suite, keys and the counter that must never repeat.

Source: DLMS UA Green Book ed. 8, 9.2 (security suites, authentication mechanisms).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

CHALLENGE_BYTES: Final = 16
"""Of ours: one server computes a wrong tag over longer ones, shorter ones are easier to guess."""
TITLE_BYTES: Final = 8
"""Length of a system title."""
KEY_BYTES: Final = {0: 16, 2: 32}
"""Length of each key by security suite (Green Book ed. 8, 9.2.3.7)."""

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


def usable(security: Security) -> tuple[Keys, InvocationCounter]:
    """Keys and counter of an association that needs them; raises ValueError."""
    keys, counter = security.keys, security.counter
    if keys is None or counter is None or len(security.client_title) != TITLE_BYTES:
        raise ValueError(
            f"an association with {security.mechanism} and {security.ciphering} ciphering needs "
            f"keys, an invocation counter and a client system title of {TITLE_BYTES} bytes"
        )
    check_key("encryption key", keys.encryption, security.suite)
    check_key("authentication key", keys.authentication, security.suite)
    return keys, counter


def check_key(name: str, key: bytes, suite: int) -> None:
    """Raises ValueError for a key whose length is not that of the suite."""
    if len(key) != KEY_BYTES[suite]:
        raise ValueError(
            f"expected an {name} of {KEY_BYTES[suite]} bytes in suite {suite}, has {len(key)}"
        )
