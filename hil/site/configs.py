"""The configuration files of an installation, as an operator would write them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from central.keys.place import KeyPlace

if TYPE_CHECKING:
    from hil.site.installation import Installation

PASSWORD = "lls.password"
"""File beside the device's keys that holds the meters' low-level password."""

_MODBUS_BAUD = 19200
_DLMS_BAUD = 9600


def central_toml(site: Installation) -> str:
    """`central.toml` of the installation."""
    place = KeyPlace(site.layout.keys)
    return _toml(
        {
            "tenant": site.settings.tenant,
            "data_dir": str(site.layout.central),
            "clock_file": str(site.layout.clock_file),
        },
        broker={
            "host": "127.0.0.1",
            "port": site.broker_port,
            "ca_file": str(place.authority_certificate),
            "cert_file": str(place.collector_certificate),
            "key_file": str(place.collector_key),
        },
        keys={"dir": str(place.directory)},
        api={"host": "127.0.0.1", "port": site.api_port, "open": True},
    )


def agent_toml(site: Installation, device: str) -> str:
    """`agent.toml` of one concentrator with its lines and meters."""
    settings = site.settings
    bundle = site.layout.bundle(device)
    meters = site.town.meters_of(site.transformer_of(device))
    text = _toml(
        {},
        agent={
            "tenant": settings.tenant,
            "device": device,
            "data_dir": str(site.layout.agent(device) / "data"),
            "recover_days": settings.recover_days,
            "batch_intervals": settings.batch_intervals,
            "sample_s": settings.sample_s,
            "clock_file": str(site.layout.clock_file),
        },
        broker={
            "host": "127.0.0.1",
            "port": site.broker_port,
            "ca_file": str(bundle.authority_certificate),
            "cert_file": str(bundle.tls_certificate),
            "key_file": str(bundle.tls_key),
        },
        keys={
            "sign_key_file": str(bundle.sign_key),
            "root_public_file": str(bundle.root_public),
            "keyset_file": str(bundle.keyset),
        },
    )
    protocols = {meter.line: meter.protocol for meter in meters}
    for line in sorted(protocols):
        text += "\n[[line]]\n" + _pairs(
            {
                "name": line,
                "port": str(site.layout.line(site.transformer_of(device), line)),
                "protocol": protocols[line],
                "baud": _MODBUS_BAUD if protocols[line] == "modbus" else _DLMS_BAUD,
            }
        )
    for meter in meters:
        address = (
            {"unit": int(meter.address)}
            if meter.protocol == "modbus"
            else {
                "server_address": meter.address,
                "password_file": str(bundle.directory / "lls.password"),
            }
        )
        text += "\n[[meter]]\n" + _pairs(
            {"id": meter.id, "line": meter.line, "model": meter.model, **address}
        )
    return text


def _pairs(values: dict[str, object]) -> str:
    # A JSON scalar is a TOML scalar for the strings, integers and booleans used here.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def _toml(top: dict[str, object], **tables: dict[str, object]) -> str:
    text = _pairs(top)
    for name, values in tables.items():
        text += f"\n[{name}]\n" + _pairs(values)
    return text
