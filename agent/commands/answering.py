"""What a scan found at one address: in words, and as a [[meter]] table to paste."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.config import AgentConfig, LineConfig, MeterConfig

if TYPE_CHECKING:
    from agent.dlms.scan import FoundServer
    from agent.modbus.scan import Identified

_LONGEST_WANTED: Final = 60
"""An id has up to 64 characters; the rest is room for a number."""


@dataclass(frozen=True, slots=True)
class Answering:
    """One address that answered, and what can be said of it."""

    address: str
    what: str
    models: tuple[str, ...] = ()
    """Shipped models whose values can be read there; only one if the meter names itself."""
    model: str | None = None
    """The one that the meter itself names."""
    serial: str | None = None
    settings: str | None = None
    """With which settings it answered, where they are not the line's own."""
    configured: str | None = None
    """The id of the [[meter]] that has this address already."""


def modbus_answer(
    config: AgentConfig, line: LineConfig, unit: int, who: Identified, settings: str | None = None
) -> Answering:
    """A Modbus unit; `settings` where it did not answer with the line's own."""
    meter = next((m for m in config.meters_of(line.name) if m.unit == unit), None)
    models = (who.model,) if who.model is not None else who.fits
    if who.model is not None:
        parts = [f"is {who.model} by its own word"]
    elif who.fits:
        parts = [f"fits {', '.join(who.fits)}"]
    else:
        parts = ["answers, but fits no shipped model"]
    if who.serial is not None:
        parts.append(f"serial {who.serial}")
    if settings is not None:
        parts.append(f"at {settings}")
    parts += _configured(meter, models)
    return Answering(
        str(unit),
        ", ".join(parts),
        models,
        who.model,
        who.serial,
        settings,
        None if meter is None else meter.id,
    )


def dlms_answer(
    config: AgentConfig, line: LineConfig, found: FoundServer, *, asked_with_password: bool
) -> Answering:
    """A DLMS server address."""
    on_line = config.meters_of(line.name)
    meter = next((m for m in on_line if m.server_address == found.address), None)
    parts = [f"serial {found.serial}" if found.serial else "tells no serial number"]
    if found.fits:
        parts.append(f"fits {', '.join(found.fits)}")
    elif asked_with_password:
        parts.append("fits no shipped model with the line's password")
    else:
        parts.append("needs a password: add one meter of this line with its password_file")
    parts += _configured(meter, found.fits)
    return Answering(
        found.address,
        ", ".join(parts),
        found.fits,
        serial=found.serial,
        configured=None if meter is None else meter.id,
    )


def meter_table(config: AgentConfig, line: LineConfig, answer: Answering) -> str:
    """What to write for it into the configuration; a comment where nothing can be written."""
    where = f"# {answer.address}: {answer.what}"
    if answer.configured is not None:
        return where
    if answer.settings is not None:
        where += (
            f"\n# The line is configured with {line.baud} Bd 8{line.parity}{line.stopbits}: "
            "one line has one setting, change it at the line or at the meter."
        )
    if not answer.models:
        return f"{where}\n# Name its model, or add a profile for it: docs/modbus.md."
    first, *others = answer.models
    choice = f"  # or {', '.join(others)}: see its label" if others else ""
    return "\n".join(
        (
            where,
            "[[meter]]",
            f"id = {json.dumps(_free_id(config, line, answer.address))}",
            f"line = {json.dumps(line.name, ensure_ascii=False)}",
            f"model = {json.dumps(first)}{choice}",
            *_address_keys(config, line, answer.address),
            "",
        )
    )


def _configured(meter: MeterConfig | None, models: tuple[str, ...]) -> Iterator[str]:
    """What the configuration says of this address, and whether that can be."""
    if meter is None:
        return
    contradicts = models and meter.model not in models and not meter.model.endswith(".toml")
    yield f"configured as {meter.id}" + (f", but with model {meter.model}" if contradicts else "")


def _address_keys(config: AgentConfig, line: LineConfig, address: str) -> Iterator[str]:
    if line.protocol != "dlms":
        yield f"unit = {address}"
        return
    yield f"server_address = {json.dumps(address)}"
    files = (meter.password_file for meter in config.meters_of(line.name))
    password_file = next((file for file in files if file is not None), None)
    if password_file is None:
        yield '# password_file = "…", if it asks for one'
        return
    folder = config.places.path.parent
    inside = password_file.is_relative_to(folder)
    shown: Path = password_file.relative_to(folder) if inside else password_file
    yield f"password_file = {json.dumps(str(shown), ensure_ascii=False)}"


def _free_id(config: AgentConfig, line: LineConfig, address: str) -> str:
    """An id that no [[meter]] has: the line's name and the address."""
    wanted = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{line.name}-{address.rpartition('/')[2]}")
    wanted = re.sub(r"\A[^A-Za-z0-9]+", "", wanted[-_LONGEST_WANTED:])
    taken = {meter.id for meter in config.meters}
    number = 1
    free = wanted
    while free in taken:
        number += 1
        free = f"{wanted}-{number}"
    return free
