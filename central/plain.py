"""Text that a concentrator or a meter wrote, made fit for a line on a terminal or in a log.

Whoever holds a device's keys chooses what it says; it must neither move the
reader's cursor nor look like a line of ours.
"""

from __future__ import annotations


def plain(text: str) -> str:
    """`text` on one line: what a terminal acts on, or cannot show, stands there as an escape."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
