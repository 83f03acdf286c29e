"""All that an error could show of what led to it."""

from __future__ import annotations


def whole_story(error: BaseException | None) -> str:
    """The error with all that led to it, as a traceback would show, and each one's fields."""
    story = ""
    while error is not None:
        story += f"{error!s} {error!r} {error.__dict__!r} {error.args!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return story
