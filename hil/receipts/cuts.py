"""A power cut in the midst of something: after so many durable writes of the agent.

What SQLite has committed with synchronous=FULL and what was renamed after its
fsync is on the card; all else is gone. That this is so is another test's
matter (`hil.powercut`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from agent.store.database import Store
from agent.store.identity import write_identity


class PowerCut(BaseException):
    """The machine is off; nobody may catch this and go on."""


@contextmanager
def cut_after(writes: int | None) -> Iterator[None]:
    """Raises PowerCut behind the durable write number `writes` + 1; None: never."""
    if writes is None:
        yield
        return
    left = writes

    def written() -> None:
        nonlocal left
        if left == 0:
            raise PowerCut
        left -= 1

    whole = Store.transaction

    @contextmanager
    def transaction(store: Store) -> Iterator[None]:
        with whole(store):
            yield
        written()

    with (
        patch.object(Store, "transaction", transaction),
        patch("agent.store.custody.write_identity", _then(write_identity, written)),
    ):
        yield


def _then(write: Callable[..., None], written: Callable[[], None]) -> Callable[..., None]:
    def both(*arguments: Any) -> None:
        write(*arguments)
        written()

    return both
