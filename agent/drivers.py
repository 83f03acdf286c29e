"""Which driver a configured meter gets; the only place that knows both protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config import AgentConfig, ConfigError, LineConfig, MeterConfig
from agent.driver import Driver
from agent.line.port import Port
from agent.line.serial_port import SerialPort
from wire.clock import Clock

if TYPE_CHECKING:
    from agent.modbus.frame import Observer


def open_line(line: LineConfig) -> SerialPort:
    """The line's port; it opens at first use."""
    return SerialPort(line.port, line.baud, line.parity, line.stopbits)


def build_driver(
    config: AgentConfig,
    line: LineConfig,
    meter: MeterConfig,
    port: Port,
    clock: Clock,
    observe: Observer | None = None,
) -> Driver:
    """The meter's driver; raises ConfigError if model, address or password does not fit.

    `observe` is told every frame of a Modbus meter.
    """
    try:
        if line.protocol == "modbus":
            return _modbus(config, meter, port, clock, observe)
        return _dlms(meter, port, clock)
    except (ValueError, OSError) as error:
        what = f"meter {meter.id} (model {meter.model}, line {line.name})"
        if meter not in config.meters:
            raise ConfigError(f"{what}: {error}") from error
        place = config.places.name("meter", config.meters.index(meter), _key(error))
        raise ConfigError(f"{place}: {what}: {error}") from error


def _key(error: Exception) -> str | None:
    """The key of [[meter]] that is to blame."""
    from agent.dlms.profile import MeterClassError
    from agent.modbus.profile import ProfileError

    if isinstance(error, ProfileError | MeterClassError):
        return "model"
    return "password_file" if isinstance(error, OSError | ConfigError) else None


def _modbus(
    config: AgentConfig, meter: MeterConfig, port: Port, clock: Clock, observe: Observer | None
) -> Driver:
    from agent.modbus.driver import ModbusDriver
    from agent.modbus.profile import find

    assert meter.unit is not None
    profile = find(meter.model, config.places.path.parent)
    return ModbusDriver.on_port(port, meter.unit, profile, clock, observe=observe)


def _dlms(meter: MeterConfig, port: Port, clock: Clock) -> Driver:
    from agent.dlms.driver import DlmsDriver
    from agent.dlms.profile import load_meter_class

    assert meter.server_address is not None
    return DlmsDriver(
        port,
        load_meter_class(meter.model),
        clock,
        server_address=meter.server_address,
        password=password_of(meter),
    )


def password_of(meter: MeterConfig) -> bytes | None:
    """The first line of the password file, without its end; raises OSError, ConfigError."""
    if meter.password_file is None:
        return None
    lines = meter.password_file.read_bytes().splitlines()
    if not lines or not lines[0]:
        raise ConfigError(f"{meter.password_file}: is empty; write the meter's password into it")
    return lines[0]
