"""Push classes as data: how the list that a meter sends by itself maps to quantities.

One TOML file per class in `profiles/push/`, or of one's own; docs/dlms.md
says what the keys mean. Values of a list come with their names in one of
three forms, or without names in an order that the class knows.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from agent.dlms.constants import obis
from agent.dlms.meter_class import EXPONENTS, FOLDER, MeterClassError
from agent.dlms.meter_class_file import Table

PUSH_FOLDER: Final = FOLDER / "push"
FORMS: Final = ("labelled", "pairs", "described", "positional")
_MOST_ELEMENTS: Final = 200

Form = Literal["labelled", "pairs", "described", "positional"]
"""labelled: each element has name, value and often scaler and unit; pairs: names and values in
turn; described: the first element lists the objects; positional: values alone."""
Place = bytes | int
"""A logical name, or the position in a positional list."""


@dataclass(frozen=True, slots=True)
class PushedQuantity:
    """Where a list has a quantity, and in which unit where the list itself does not say."""

    place: Place
    unit: str
    scaler: int = 0
    """The value in `unit` is raw x 10^scaler."""
    less: Place | None = None
    """What is taken off, in the same unit: power is import less export."""


@dataclass(frozen=True, slots=True)
class PushClass:
    """One kind of list that one kind of meter sends."""

    name: str
    title: str
    form: Form
    quantities: Mapping[str, PushedQuantity]
    serial: Place | None
    clock: Place | None
    """None: the date-time of the notification itself."""
    needs: tuple[bytes, ...]
    """Names that must be in the list, to tell it from others."""
    begins: str
    """Text of the first element, to tell the list from others; empty: any."""
    count: int | None
    """Elements of a positional list."""
    utc_offset_min: int
    inverted_deviation: bool


@lru_cache(maxsize=32)
def load_push_class(name: str, folder: Path = PUSH_FOLDER) -> PushClass:
    """The class in `<folder>/<name>.toml`; raises MeterClassError."""
    path = folder / f"{name}.toml"
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(push_classes(folder)) or "none"
        raise MeterClassError(f"no push class {name!r} in {folder}; known are: {known}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MeterClassError(f"{path}: not TOML: {error}; correct the line") from error
    return _read(Table(path, "", fields), name)


def find_push_class(model: str, beside: Path) -> PushClass:
    """The class that a configuration in the folder `beside` names; raises MeterClassError.

    A shipped class by its name, or a file by a path that ends in .toml.
    """
    if not model.endswith(".toml"):
        return load_push_class(model)
    path = beside / model
    return load_push_class(path.stem, path.parent)


def push_classes(folder: Path = PUSH_FOLDER) -> tuple[str, ...]:
    """Names of the classes in a folder."""
    return tuple(sorted(file.stem for file in folder.glob("*.toml")))


def _read(top: Table, name: str) -> PushClass:
    top.get("source", str)
    push, clock = top.table("push"), top.table("clock")
    values = top.table("values")
    form: Form = push.choice("form", FORMS)
    positional = form == "positional"
    push_class = PushClass(
        name=name,
        title=top.get("title", str),
        form=form,
        quantities=_quantities(values, positional=positional),
        serial=_place(push, "serial", positional=positional) if "serial" in push else None,
        clock=_place(clock, "place", positional=positional) if "place" in clock else None,
        needs=_names(push),
        begins=push.get("begins", str, ""),
        count=push.within("count", 1, _MOST_ELEMENTS) if positional else None,
        utc_offset_min=clock.within("utc_offset_min", -720, 840),
        inverted_deviation=clock.choice("deviation", ("standard", "inverted"), "standard")
        == "inverted",
    )
    for table in (push, clock, values, top):
        table.finish()
    return push_class


def _names(push: Table) -> tuple[bytes, ...]:
    names = []
    for text in push.get("needs", list, []):
        try:
            names.append(obis(str(text)))
        except ValueError as error:
            raise push.bad("needs", str(error)) from error
    return tuple(names)


def _quantities(values: Table, *, positional: bool) -> dict[str, PushedQuantity]:
    quantities = {}
    for name in values.left():
        if name not in EXPONENTS:
            raise values.bad(name, f"expected one of {', '.join(EXPONENTS)}")
        entry = values.table(name)
        quantities[name] = PushedQuantity(
            place=_place(entry, "place", positional=positional),
            unit=entry.get("unit", str),
            scaler=entry.within("scaler", -12, 12, 0),
            less=_place(entry, "less", positional=positional) if "less" in entry else None,
        )
        entry.finish()
    return quantities


def _place(table: Table, key: str, *, positional: bool) -> Place:
    """A position from 0 in a positional list, a logical name in others."""
    if positional:
        return int(table.within(key, 0, _MOST_ELEMENTS - 1))
    return table.parsed(key, obis)
