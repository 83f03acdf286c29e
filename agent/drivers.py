"""Which driver a configured meter gets; the only place that knows both protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from agent.config import AgentConfig, ConfigError, LineConfig, MeterConfig
from agent.driver import Driver
from agent.line.port import Port
from agent.line.rs485 import Rs485
from agent.line.serial_port import SerialPort
from wire.clock import Clock

if TYPE_CHECKING:
    from agent.line.tcp_port import TcpPort
    from agent.modbus.driver import ModbusDriver
    from agent.modbus.frame import Observer
    from agent.modbus.gateway import TcpGateway
    from agent.modbus.profile import Profile


def open_line(line: LineConfig) -> SerialPort | TcpPort | TcpGateway:
    """The port or gateway of a line whose meters are asked; it opens at first use.

    Raises ConfigError where they send by themselves.
    """
    if line.is_pushed:
        raise ConfigError(
            f"line {line.name}: meters on it send by themselves ({line.protocol}) and cannot be "
            "asked; status shows what is heard of them"
        )
    if line.protocol == "modbus-tcp":
        from agent.modbus.gateway import TcpGateway

        host, number = line.endpoint
        return TcpGateway(host, number, char_s=line.char_s)
    if line.protocol == "dlms-tcp":
        from agent.line.tcp_port import TcpPort

        host, number = line.endpoint
        return TcpPort(host, number, char_s=line.char_s)
    return serial_port(line)


def serial_port(line: LineConfig) -> SerialPort:
    """The port of a serial line; it opens at first use."""
    rs485 = None
    if line.rs485 == "kernel":
        rs485 = Rs485(line.rts_high_while_sending, line.rts_before_ms, line.rts_after_ms)
    return SerialPort(line.port, line.baud, line.parity, line.stopbits, rs485)


def build_driver(
    config: AgentConfig,
    line: LineConfig,
    meter: MeterConfig,
    port: Port | TcpGateway,
    clock: Clock,
    observe: Observer | None = None,
    observe_apdu: Callable[[str, bytes, bytes], None] | None = None,
) -> Driver:
    """The meter's driver; raises ConfigError if model, address, ratio or secrets do not fit.

    `port` is what `open_line` made of the line. `observe` is told every frame
    of a Modbus meter, `observe_apdu` every APDU of a DLMS meter ("sent" or
    "heard", as carried, deciphered). A Modbus meter's driver is a `SampledDriver`.
    """
    try:
        if line.is_dlms:
            from agent.drivers_dlms import build_dlms

            # Only a modbus-tcp line has a gateway.
            return build_dlms(
                config, line, meter, cast("Port", port), clock, observe_apdu=observe_apdu
            )
        return _modbus(config, meter, port, clock, observe)
    except (ValueError, OSError) as error:
        what = f"meter {meter.id} (model {meter.model}, line {line.name})"
        if meter not in config.meters:
            raise ConfigError(f"{what}: {error}") from error
        place = config.places.name("meter", config.meters.index(meter), _key(error))
        raise ConfigError(f"{place}: {what}: {error}") from error


class RatioRefused(ConfigError):
    """A transformer ratio is given for a model whose registers hold primary values already."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(what)
        self.key = key


def _key(error: Exception) -> str | None:
    """The key of [[meter]] that is to blame."""
    from agent.credentials import CredentialsError
    from agent.dlms.meter_class import MeterClassError
    from agent.drivers_dlms import OpeningRefused
    from agent.modbus.profile import ProfileError

    if isinstance(error, RatioRefused):
        return error.key
    if isinstance(error, CredentialsError):
        return "credentials"
    if isinstance(error, OpeningRefused):
        return "line"
    if isinstance(error, ProfileError | MeterClassError):
        return "model"
    return "password_file" if isinstance(error, OSError | ConfigError) else None


def _modbus(
    config: AgentConfig,
    meter: MeterConfig,
    port: Port | TcpGateway,
    clock: Clock,
    observe: Observer | None,
) -> ModbusDriver:
    from agent.modbus.driver import ModbusDriver
    from agent.modbus.gateway import TcpGateway
    from agent.modbus.profile import Ratio, find

    assert meter.unit is not None
    profile = find(meter.model, config.places.path.parent)
    ratio = Ratio(meter.current_ratio, meter.voltage_ratio)
    if profile.side == "primary":
        _refuse_ratio(meter, profile)
    if isinstance(port, TcpGateway):
        return ModbusDriver.behind_gateway(
            port, meter.unit, profile, clock, ratio=ratio, observe=observe
        )
    return ModbusDriver.on_port(port, meter.unit, profile, clock, ratio=ratio, observe=observe)


def _refuse_ratio(meter: MeterConfig, profile: Profile) -> None:
    for key, ratio in (
        ("current_ratio", meter.current_ratio),
        ("voltage_ratio", meter.voltage_ratio),
    ):
        if ratio != 1:
            raise RatioRefused(
                key,
                f"came {ratio}, but {profile.title} shows primary values already; remove it, and "
                "set the ratio at the meter if its display is wrong",
            )
