"""A DLMS meter's driver, put together from its class, its line, its credentials and counters.

What the meters of one process have in common (credentials, invocation
counters) is read once and shared; a meter that does not cipher touches
neither `cryptography` nor the file of counters.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from hashlib import sha256
from typing import Final

from agent.config import AgentConfig, ConfigError, LineConfig, MeterConfig
from agent.credentials import Credential, CredentialsError, load_credentials, read_private
from agent.dlms.channel import ObserveApdu
from agent.dlms.client import Client
from agent.dlms.constants import PUBLIC_CLIENT
from agent.dlms.driver import DlmsDriver, MakeCarrier
from agent.dlms.link.carrier import Carrier
from agent.dlms.load_profile.scaling import Transformers
from agent.dlms.meter_class import MeterClass, find_meter_class, load_meter_class
from agent.dlms.security.counters import FILE_NAME, CounterStore, counter_name
from agent.dlms.security.settings import KEY_BYTES, Keys, Security
from agent.line.port import Port
from wire.clock import Clock

_ANY_CLASS: Final = "idis_residential"
"""Whose link settings hold for a meter that is not known yet."""
_MAKER: Final = b"LSC"
"""The three letters with which our system title begins, as a maker's do."""

_shared_credentials = lru_cache(maxsize=4)(load_credentials)
"""So that a command is run once, however many meters it has secrets for."""
_shared_counters = lru_cache(maxsize=4)(CounterStore)
"""So that meters with a key in common also have its counter in common."""


class OpeningRefused(ConfigError):
    """The line asks for an opening that its port cannot do."""


def build_dlms(
    config: AgentConfig,
    line: LineConfig,
    meter: MeterConfig,
    port: Port,
    clock: Clock,
    observe_apdu: ObserveApdu | None = None,
) -> DlmsDriver:
    """The driver of a meter on a `dlms` or `dlms-tcp` line; raises ConfigError, ValueError."""
    meter_class = _class_of(config, meter)
    name = f"DLMS meter {meter.server_address} ({meter_class.name})"
    return DlmsDriver(
        _carrier(line, meter, meter_class, port, name),
        meter_class,
        clock,
        security=_security(config, meter, meter_class),
        name=name,
        transformers=Transformers(meter.current_ratio, meter.voltage_ratio),
        observe_apdu=observe_apdu,
    )


def public_client(
    line: LineConfig, meter: MeterConfig, port: Port, address_bytes: int | None = None
) -> Client:
    """The client that needs no secrets and sees little (SAP 16); raises ValueError, ConfigError."""
    meter_class = load_meter_class(_ANY_CLASS)
    link = replace(meter_class.link, tries=1)
    once = replace(meter_class, link=link, address_bytes=address_bytes)
    name = f"DLMS meter {meter.server_address}"
    return Client(_carrier(line, meter, once, port, name)(PUBLIC_CLIENT), Security(), name=name)


def credential_of(config: AgentConfig, meter: MeterConfig) -> Credential:
    """The meter's secrets, from [credentials] or its password file; raises ConfigError."""
    if meter.credentials is not None:
        if config.credentials is None:
            raise CredentialsError(
                f"expected a table [credentials] for {meter.credentials!r}, there is none; add it"
            )
        return _shared_credentials(config.credentials).of(meter.credentials)
    if meter.password_file is None:
        return Credential(meter.id)
    lines = read_private(meter.password_file).splitlines()
    if not lines or not lines[0]:
        raise ConfigError(f"{meter.password_file}: is empty; write the meter's password into it")
    return Credential(meter.id, password=lines[0])


def client_title(config: AgentConfig) -> bytes:
    """The agent's system title, 8 bytes: no two agents of one utility share one by chance.

    Made of the common name unless the configuration gives one. A nonce begins
    with it, so two agents with one title and one key would repeat nonces.
    """
    if config.dlms_system_title is not None:
        return config.dlms_system_title
    return _MAKER + sha256(config.common_name.encode()).digest()[:5]


def _class_of(config: AgentConfig, meter: MeterConfig) -> MeterClass:
    """The meter's class, with the client address that the configuration gives; MeterClassError."""
    meter_class = find_meter_class(meter.model, config.places.path.parent)
    if meter.client_sap is None:
        return meter_class
    return replace(meter_class, client_sap=meter.client_sap)


def _security(config: AgentConfig, meter: MeterConfig, meter_class: MeterClass) -> Security:
    credential = credential_of(config, meter)
    mechanism, ciphering = meter_class.mechanism, meter_class.ciphering
    password = credential.password if mechanism == "lls" else None
    if mechanism == "lls" and password is None:
        raise CredentialsError(
            f"meter class {meter_class.name} associates with a password (LLS) and "
            f"{_whose(meter)} has none; give the meter credentials or a password_file"
        )
    if mechanism != "hls-gmac" and ciphering == "none":
        return Security(mechanism=mechanism, password=password)
    keys = _keys(meter, meter_class, credential)
    counters = _shared_counters(config.data_dir / FILE_NAME)
    return Security(
        mechanism=mechanism,
        ciphering=ciphering,
        suite=meter_class.suite,
        password=password,
        keys=keys,
        client_title=client_title(config),
        counter=counters.counter(counter_name(keys.encryption)),
    )


def _keys(meter: MeterConfig, meter_class: MeterClass, credential: Credential) -> Keys:
    encryption, authentication = credential.encryption_key, credential.authentication_key
    expected = KEY_BYTES[meter_class.suite]
    what = f"meter class {meter_class.name} (suite {meter_class.suite})"
    if encryption is None or authentication is None:
        raise CredentialsError(
            f"{what} needs an encryption_key and an authentication_key, {_whose(meter)} has none; "
            "write both into the table of [credentials] that the meter names"
        )
    if len(encryption) != expected:
        raise CredentialsError(
            f"{what} needs keys of {expected} bytes, those of {_whose(meter)} have "
            f"{len(encryption)}; write the meter's own keys, or give it the model of its suite"
        )
    return Keys(encryption, authentication)


def _whose(meter: MeterConfig) -> str:
    return f"credentials [{meter.credentials}]" if meter.credentials else f"meter {meter.id}"


def _carrier(
    line: LineConfig,
    meter: MeterConfig,
    meter_class: MeterClass,
    port: Port,
    name: str,
) -> MakeCarrier:
    """What makes a link to the meter for one of its clients; raises ValueError for an address."""
    assert meter.server_address is not None
    if line.protocol == "dlms-tcp" and line.framing == "wrapper":
        return _wrapper(int(meter.server_address), meter_class, port, name)
    hdlc = _hdlc(meter.server_address, meter_class, port, name)
    return _after_mode_e(line, meter, port, name, hdlc) if line.opening == "mode-e" else hdlc


def _after_mode_e(
    line: LineConfig, meter: MeterConfig, port: Port, name: str, hdlc: MakeCarrier
) -> MakeCarrier:
    """Each link begins with the opening, and goes on at the line's baud rate at most."""
    from agent.dlms.link.mode_e import ModeECarrier, SwitchablePort, open_hdlc

    if not isinstance(port, SwitchablePort):
        raise OpeningRefused(
            f'line {line.name} has opening = "mode-e": expected a serial port, whose rate can be '
            f"switched, came {type(port).__name__}"
        )
    opening = partial(
        open_hdlc,
        port,
        name=name,
        address=meter.device_address,
        most_baud=line.baud,
        parity=line.parity,
    )
    return lambda client_sap: ModeECarrier(hdlc(client_sap), opening)


def _hdlc(address: str, meter_class: MeterClass, port: Port, name: str) -> MakeCarrier:
    from agent.dlms.link.frame import client_address, server_address
    from agent.dlms.link.hdlc_carrier import HdlcCarrier

    server = server_address(address, meter_class.address_bytes)

    def carrier(client_sap: int) -> Carrier:
        return HdlcCarrier(
            port,
            meter_class.link,
            client_address=client_address(client_sap),
            server_address=server,
            name=name,
        )

    return carrier


def _wrapper(wport: int, meter_class: MeterClass, port: Port, name: str) -> MakeCarrier:
    from agent.dlms.link.wrapper import WrapperCarrier

    def carrier(client_sap: int) -> Carrier:
        return WrapperCarrier(
            port,
            meter_class.link,
            client_sap=client_sap,
            server_wport=wport,
            name=name,
        )

    return carrier
