"""The configuration files of an installation, as an operator would write them."""

from __future__ import annotations

import json

from central.keys.place import KeyPlace
from hil.site.layout import Layout
from hil.site.settings import Settings
from hil.town import Town

PASSWORD = "lls.password"
"""File beside the device's keys that holds the meters' low-level password."""

_MODBUS_BAUD = 19200
_DLMS_BAUD = 9600


def central_toml(layout: Layout, settings: Settings, broker_port: int, api_port: int) -> str:
    """`central.toml` of the installation."""
    place = KeyPlace(layout.keys)
    return _toml(
        {
            "tenant": settings.tenant,
            "data_dir": str(layout.central),
            "clock_file": str(layout.clock_file),
        },
        broker={
            "host": "127.0.0.1",
            "port": broker_port,
            "ca_file": str(place.authority_certificate),
            "cert_file": str(place.collector_certificate),
            "key_file": str(place.collector_key),
        },
        keys={"dir": str(place.directory)},
        api={"host": "127.0.0.1", "port": api_port, "open": True},
    )


def agent_toml(
    layout: Layout, settings: Settings, broker_port: int, town: Town, device: str
) -> str:
    """`agent.toml` of one concentrator with its lines and meters."""
    bundle = layout.bundle(device)
    transformer = next(t.id for t in town.transformers if t.concentrator == device)
    meters = town.meters_of(transformer)
    text = _toml(
        {},
        agent={
            "tenant": settings.tenant,
            "device": device,
            "data_dir": str(layout.agent(device) / "data"),
            "recover_days": settings.recover_days,
            "batch_intervals": settings.batch_intervals,
            "sample_s": settings.sample_s,
            "clock_file": str(layout.clock_file),
        },
        broker={
            "host": "127.0.0.1",
            "port": broker_port,
            "ca_file": str(bundle.authority_certificate),
            "cert_file": str(bundle.tls_certificate),
            "key_file": str(bundle.tls_key),
            # Watched by people, on a link that costs nothing.
            "state_every_s": 2,
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
                "port": str(layout.line(transformer, line)),
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
