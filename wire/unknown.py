"""What a later program writes: known to be something, not yet known what.

A reader that meets a schema, version, content or suite that it does not know
keeps the batch sealed, raises an alarm and tries again after an update. It
asks nobody to send it again and drops nothing.
"""

from __future__ import annotations


class NotKnownYet(ValueError):
    """A number that this program's tables do not hold; a later program's may."""
