"""What a scan found at one address: in words, and as a [[meter]] table to paste."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.config import AgentConfig, LineConfig, MeterConfig

if TYPE_CHECKING:
    from agent.dlms.scan import Identity
    from agent.modbus.scan import Identified

_PROFILE_PAGE: Final = "a profile for it: docs/modbus.md"
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
    lender: str | None = None
    """The id of the [[meter]] whose secrets opened it."""


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
    config: AgentConfig,
    line: LineConfig,
    address: str,
    who: Identity,
    fits: Mapping[str, MeterConfig | None],
    serial: str | None,
    address_bytes: int | None = None,
) -> Answering:
    """A DLMS server address; `fits` says which meter's secrets opened each class."""
    on_line = config.meters_of(line.name)
    meter = next((m for m in on_line if m.server_address == address), None)
    serial = who.serial or serial
    parts = [f"serial {serial}" if serial else "tells no serial number"]
    if who.device_name:
        parts.append(f"device {who.device_name}")
    if fits:
        parts.append(f"fits {', '.join(fits)}")
    elif address_bytes == 4:
        parts.append("hears 4 bytes: give it a class of your own with address_bytes = 4")
    elif any(m.password_file or m.credentials for m in on_line):
        parts.append("fits no shipped model with the secrets of this line's meters")
    else:
        parts.append("needs a password or keys: give one meter of this line its credentials")
    parts += _configured(meter, tuple(fits))
    return Answering(
        address,
        ", ".join(parts),
        tuple(fits),
        serial=serial,
        configured=None if meter is None else meter.id,
        lender=next((lender.id for lender in fits.values() if lender is not None), None),
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
        page = "a meter class for it: docs/dlms.md" if line.is_dlms else _PROFILE_PAGE
        return f"{where}\n# Name its model, or add {page}."
    first, *others = answer.models
    choice = f"  # or {', '.join(others)}: see its label" if others else ""
    return "\n".join(
        (
            where,
            "[[meter]]",
            f"id = {json.dumps(_free_id(config, line, answer.address))}",
            f"line = {json.dumps(line.name, ensure_ascii=False)}",
            f"model = {json.dumps(first)}{choice}",
            *_address_keys(config, line, answer),
            "",
        )
    )


def _configured(meter: MeterConfig | None, models: tuple[str, ...]) -> Iterator[str]:
    """What the configuration says of this address, and whether that can be."""
    if meter is None:
        return
    contradicts = models and meter.model not in models and not meter.model.endswith(".toml")
    yield f"configured as {meter.id}" + (f", but with model {meter.model}" if contradicts else "")


def _address_keys(config: AgentConfig, line: LineConfig, answer: Answering) -> Iterator[str]:
    if not line.is_dlms:
        yield f"unit = {answer.address}"
        return
    yield f"server_address = {json.dumps(answer.address)}"
    lender = next((meter for meter in config.meters if meter.id == answer.lender), None)
    if lender is None:
        yield '# credentials = "…", if it asks for a password or keys'
    elif lender.credentials is not None:
        yield f"credentials = {json.dumps(lender.credentials, ensure_ascii=False)}"
    elif lender.password_file is not None:
        folder, file = config.places.path.parent, lender.password_file
        shown: Path = file.relative_to(folder) if file.is_relative_to(folder) else file
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
