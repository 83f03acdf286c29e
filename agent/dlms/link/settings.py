"""What a meter class says of its link."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How a meter class wants its link; sizes in bytes, times in s."""

    max_info: int = 2030
    window: int = 7
    """Most frames at a time, in both directions; the meter may agree to fewer."""
    response_s: float = 1.0
    """Longest time from our last byte to the first byte of the answer."""
    tries: int = 3
    pause_s: float = 0.2
    """Longest silence inside an answer; USB adapters and a busy host make gaps of their own."""
    gap_s: float = 0.01
    """Silence between an answer and the next request."""
    exchange_s: float = 60.0
    """Longest time of one request with its whole answer, however well they get on."""
    max_pdu: int = 0xFFFF
    longest_answer: int = 1 << 20
    lists: bool = True
    """Whether GET with list is proposed; it saves exchanges, and some meters do it badly."""
    general_blocks: bool = False
    """Whether general block transfer is proposed: long requests in pieces, answers in streams."""
    release: bool = False
    """Whether RLRQ is sent before DISC."""
