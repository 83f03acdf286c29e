"""A line of meters that send by themselves, put together from configuration and push classes."""

from __future__ import annotations

from typing import Final

from agent.config import AgentConfig, ConfigError, LineConfig, MeterConfig
from agent.credentials import CredentialsError
from agent.dlms.link.push_sources import PushSource, SerialPushes, TcpPushes
from agent.dlms.meter_class import MeterClassError
from agent.dlms.push import LONGEST
from agent.dlms.push_class import PushClass, find_push_class
from agent.dlms.pushed_meters import PushedMeter
from agent.dlms.security.settings import KEY_BYTES, Keys
from agent.drivers import serial_port
from agent.drivers_dlms import credential_of
from agent.line.listening import ListeningPort

_SUITES: Final = {size: suite for suite, size in KEY_BYTES.items()}


def push_source(line: LineConfig) -> PushSource:
    """What the line's meters are heard by; it opens when it is opened."""
    if line.is_tcp:
        return TcpPushes(ListeningPort(*line.endpoint), LONGEST)
    return SerialPushes(serial_port(line), LONGEST)


def build_pushed(config: AgentConfig, meter: MeterConfig) -> PushedMeter:
    """What is known of one meter; raises ConfigError if model, address or keys do not fit."""
    key = "model"
    try:
        push_class = find_push_class(meter.model, config.places.path.parent)
        _check_energy(push_class)
        key = "credentials"
        keys = _keys(config, meter)
    except (MeterClassError, CredentialsError, ValueError) as error:
        place = config.places.name("meter", config.meters.index(meter), key)
        what = f"meter {meter.id} (model {meter.model}, line {meter.line})"
        raise ConfigError(f"{place}: {what}: {error}") from error
    address = None
    if meter.server_address is not None:
        address = tuple(map(int, meter.server_address.split("/")))
    return PushedMeter(
        meter.id,
        push_class,
        keys,
        0 if keys is None else _SUITES[len(keys.encryption)],
        meter.system_title,
        address,
        meter.serial,
    )


def _check_energy(push_class: PushClass) -> None:
    if "import_wh" not in push_class.quantities:
        raise MeterClassError(
            f"expected a push class with import_wh, {push_class.name} has "
            f"{', '.join(push_class.quantities)}: no interval can be made of its lists; choose the "
            "class of a list with energies, and have the meter send that"
        )


def _keys(config: AgentConfig, meter: MeterConfig) -> Keys | None:
    if meter.credentials is None:
        return None
    credential = credential_of(config, meter)
    encryption, authentication = credential.encryption_key, credential.authentication_key
    if encryption is None or authentication is None:
        raise CredentialsError(
            f"expected an encryption_key and an authentication_key in [{meter.credentials}], there "
            "are none; add them, or remove credentials of a meter that sends in the clear"
        )
    if len(encryption) not in _SUITES or len(authentication) != len(encryption):
        raise CredentialsError(
            f"expected two keys of 16 or of 32 bytes in [{meter.credentials}], came "
            f"{len(encryption)} and {len(authentication)}; write the meter's own"
        )
    return Keys(encryption, authentication)
