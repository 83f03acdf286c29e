"""One DLMS meter as the agent sees it: a sample now, rows of its load profile for the past.

A fresh association each time, ended by DISC; `session()` keeps one for several
reads. What never changes (scalers and units, columns and period of the
profile) is read once and kept. The serial number is read with the values, so
that an exchanged meter is seen; what was kept of the old meter is then
forgotten, and the new one is learnt and read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.channel import ObserveApdu
from agent.dlms.client import Client, read_counter
from agent.dlms.clock import MeterClock
from agent.dlms.constants import PUBLIC_CLIENT
from agent.dlms.errors import AssociationSilent, CounterBehind, DlmsError, LinkLost, MeterDiffers
from agent.dlms.link.carrier import Carrier
from agent.dlms.load_profile.meter_time import MeterTime
from agent.dlms.load_profile.reading import ProfileReader
from agent.dlms.load_profile.scaling import NO_TRANSFORMERS, Scalings, Transformers, common
from agent.dlms.meter_class import EXPONENTS, MeterClass, Quantity
from agent.dlms.security.settings import Security
from agent.driver import ClockBounds, ClockReading, MeterEvent, ProfileRow, Sample
from agent.line.port import Port

if TYPE_CHECKING:
    from agent.dlms.event_log import EventLogReader
    from wire.clock import Clock

log = logging.getLogger(__name__)

_LONGEST_SERIAL_BYTES: Final = 128
"""As much as a roster and an event carry; real ones have 8 to 16."""

_SILENCES_PER_COUNTER: Final = 16
"""Of so many associations in a row that a meter does not answer, one has its counter read."""

Result = TypeVar("Result")

MakeCarrier = Callable[[int], Carrier]
"""A carrier to the meter for a client with this SAP."""


class _Exchanged(DlmsError):
    """Another serial number came than before; never leaves the driver."""


class DlmsDriver:
    """Implements `agent.driver.ProfileDriver`. Used by the line's own thread only."""

    def __init__(
        self,
        carrier: MakeCarrier,
        meter_class: MeterClass,
        clock: Clock,
        *,
        security: Security,
        name: str,
        transformers: Transformers = NO_TRANSFORMERS,
        observe_apdu: ObserveApdu | None = None,
    ) -> None:
        """`name` says in errors which meter is meant; `observe_apdu` is told every APDU.

        Raises ValueError for a password that is missing, or ratios where the
        class has primary values.
        """
        if meter_class.needs_password and security.password is None:
            raise ValueError(
                f"meter class {meter_class.name} associates with a password (LLS) and {name} has "
                "none; give it credentials or a password_file"
            )
        if transformers != NO_TRANSFORMERS and meter_class.profile.side == "primary":
            raise ValueError(
                f"{name} has a transformer ratio, and meter class {meter_class.name} shows primary "
                "values already; remove the ratio"
            )
        self._carrier = carrier
        self._class = meter_class
        self._clock = clock
        self._security = security
        self._name = name
        self._transformers = transformers
        self._observe_apdu = observe_apdu
        self._client: Client | None = None
        self._silences = 0
        """Associations without an answer in a row."""
        self._serial: str | None = None
        self._scalings = Scalings(name, meter_class.name)
        time = MeterTime(
            meter_class.utc_offset_min, inverted_deviation=meter_class.inverted_deviation
        )
        self._profile = ProfileReader(
            meter_class.profile,
            meter_class.serial,
            meter_class.quantities,
            self._scalings,
            time,
            clock,
            transformers=transformers,
            identify=self._identify,
            meter=name,
        )
        self._meter_clock = MeterClock(
            meter_class.profile.clock, meter_class.clock_setting, time, clock, name
        )
        self._logs = _log_readers(meter_class, time, clock, name)

    @classmethod
    def on_port(
        cls,
        port: Port,
        meter_class: MeterClass,
        clock: Clock,
        *,
        server_address: str,
        password: bytes | None = None,
        transformers: Transformers = NO_TRANSFORMERS,
    ) -> DlmsDriver:
        """A meter without ciphering behind HDLC on a port; raises ValueError."""
        # Meters behind the TCP wrapper need no HDLC.
        from agent.dlms.link import frame
        from agent.dlms.link.hdlc_carrier import HdlcCarrier

        name = f"DLMS meter {server_address} ({meter_class.name})"
        server = frame.server_address(server_address, meter_class.address_bytes)

        def carrier(client_sap: int) -> Carrier:
            return HdlcCarrier(
                port,
                meter_class.link,
                client_address=frame.client_address(client_sap),
                server_address=server,
                name=name,
            )

        mechanism = Security(mechanism="lls", password=password)
        security = mechanism if meter_class.needs_password else Security()
        return cls(
            carrier, meter_class, clock, security=security, name=name, transformers=transformers
        )

    @property
    def keeps_profile(self) -> bool:
        return True

    @property
    def serial(self) -> str | None:
        """Serial number as it came with the values read last; None before the first."""
        return self._serial

    @property
    def quantities(self) -> frozenset[str]:
        return frozenset(self._class.profile.columns)

    @property
    def event_logs(self) -> tuple[str, ...]:
        return tuple(self._logs)

    @property
    def clock_bounds(self) -> ClockBounds | None:
        newest, period_s = self._profile.newest, self._profile.period_s
        return None if newest is None or period_s is None else ClockBounds.of(*newest, period_s)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Keeps one association for the reads inside; raises ReadError when it does not come up.

        A counter that is behind the meter's, or may be, is raised above it, once.
        """
        if self._client is not None:
            raise RuntimeError(f"{self._name} already has a session; sessions do not nest")
        with ExitStack() as stack:
            try:
                client = stack.enter_context(self._own_client())
            except (CounterBehind, AssociationSilent) as error:
                self._raise_counter(error)
                client = stack.enter_context(self._own_client())
            self._silences = 0
            self._client = client
            try:
                yield
            finally:
                self._client = None

    def sample(self) -> Sample:
        return self._associated(self._sample)

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        return self._associated(
            lambda client: self._of_one_meter(
                lambda: self._profile.read(client, first_end_utc_s, last_end_utc_s)
            )
        )

    def resume(self, serial: str, end_utc_s: int, registers: Mapping[str, int]) -> None:
        if self._class.profile.energies == "deltas":
            # Another serial number is then an exchange, after which nothing goes on.
            self._serial = serial
            self._profile.resume(end_utc_s, registers)

    def read_clock(self) -> ClockReading:
        return self._associated(self._meter_clock.read)

    def set_clock(self) -> ClockReading:
        self._meter_clock.check_allowed()
        return self._associated(
            lambda client: self._meter_clock.set(client, self._profile.learn(client).period_s)
        )

    def events(self, log: str, after_utc_s: int) -> list[MeterEvent]:
        """Raises ValueError for a log that is not among `event_logs`."""
        reader = self._logs.get(log)
        if reader is None:
            raise ValueError(f"{self._name} has no log {log!r}; it has {', '.join(self._logs)}")

        def read(client: Client) -> list[MeterEvent]:
            self._identify(client.get(self._class.serial))
            return reader.read(client, after_utc_s)

        return self._associated(lambda client: self._of_one_meter(lambda: read(client)))

    def _associated(self, read: Callable[[Client], Result]) -> Result:
        """Reads within the session if there is one, otherwise in an association of its own.

        A link that the meter left in the middle is made anew, once.
        """
        if self._client is not None:
            return read(self._client)
        try:
            return self._once(read)
        except LinkLost as error:
            log.info("%s: link lost (%s), making a new one", self._name, error)
            return self._once(read)

    def _once(self, read: Callable[[Client], Result]) -> Result:
        """Reads in an association of its own; a counter refused in the middle is raised, once."""
        with self.session():
            assert self._client is not None
            try:
                return read(self._client)
            except CounterBehind as error:
                behind = error
        self._raise_counter(behind)
        with self.session():
            return read(self._client)

    def _raise_counter(self, error: CounterBehind | AssociationSilent) -> None:
        """Raises our counter above the one that the meter shows to everyone; raises `error`.

        Many meters say nothing to a counter that is behind. A meter may be
        silent for other reasons, so that is looked into now and then only.
        """
        where, counter = self._class.counter_object, self._security.counter
        if where is None or counter is None:
            raise error
        if isinstance(error, AssociationSilent):
            self._silences += 1
            if self._silences % _SILENCES_PER_COUNTER != 1:
                raise error
        value = read_counter(self._new_client(PUBLIC_CLIENT, Security()), where)
        counter.raise_above(value)
        log.warning("%s: the meter has seen counter %d, ours goes on above it", self._name, value)

    def _own_client(self) -> Client:
        return self._new_client(self._class.client_sap, self._security)

    def _new_client(self, client_sap: int, security: Security) -> Client:
        link = self._class.link
        return Client(
            self._carrier(client_sap),
            security,
            name=self._name,
            max_pdu=link.max_pdu,
            lists=link.lists,
            general_blocks=link.general_blocks,
            release=link.release,
            exchange_s=link.exchange_s,
            observe_apdu=self._observe_apdu,
        )

    def _identify(self, value: Any) -> None:
        """Notes the serial number; raises _Exchanged when it is another than before."""
        serial = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        serial = serial.strip("\0 ")
        length = len(serial.encode())
        if length > _LONGEST_SERIAL_BYTES:
            raise MeterDiffers(
                f"{self._name}: expected a serial number of at most {_LONGEST_SERIAL_BYTES} bytes, "
                f"{self._class.serial} holds {length}; name another object in the meter class"
            )
        before, self._serial = self._serial, serial
        if before is None or before == serial:
            return
        raise _Exchanged(f"{self._name}: serial number was {before}, is {serial}")

    def _of_one_meter(self, read: Callable[[], Result]) -> Result:
        """What one meter says; once more from the beginning when another one turns up."""
        try:
            return read()
        except _Exchanged as error:
            log.warning("%s", error)
        self._scalings.forget()
        self._profile.forget()
        for reader in self._logs.values():
            reader.forget()
        try:
            return read()
        except _Exchanged as error:
            raise MeterDiffers(
                f"{self._name}: the serial number changes from one read to the next, now "
                f"{self._serial}; check that no two meters have this server address"
            ) from error

    def _sample(self, client: Client) -> Sample:
        return self._of_one_meter(lambda: self._sample_of(client))

    def _sample_of(self, client: Client) -> Sample:
        quantities = self._class.quantities
        self._scalings.learn(client, quantities.values())
        wanted = [at for quantity in quantities.values() for at in quantity.attributes]
        began_utc_s = self._clock.now_utc_s()
        serial, *raw = client.get_many([self._class.serial, *wanted])
        middle_utc_s = (began_utc_s + self._clock.now_utc_s()) / 2
        self._identify(serial)
        shown = dict(zip(wanted, raw, strict=True))
        values = {name: self._whole(name, quantity, shown) for name, quantity in quantities.items()}
        return Sample(at_utc_ms=round(middle_utc_s * 1000), serial=self._serial, **values)

    def _whole(self, name: str, quantity: Quantity, shown: Mapping[Attribute, Any]) -> int:
        """A quantity in our unit, its registers added up."""
        scaling, weights = common([self._scalings[at] for at in quantity.attributes])
        raw = [self._integer(at, shown[at]) for at in quantity.attributes]
        total = sum(value * weight for value, weight in zip(raw, weights, strict=True))
        return scaling.whole(total, EXPONENTS[name], self._transformers)

    def _integer(self, attribute: Attribute, value: Any) -> int:
        if not isinstance(value, int):
            raise MeterDiffers(f"{self._name}: expected {attribute} to be an integer, is {value!r}")
        return value


def _log_readers(
    meter_class: MeterClass, time: MeterTime, clock: Clock, meter: str
) -> dict[str, EventLogReader]:
    if not meter_class.logs:
        return {}
    from agent.dlms.event_log import EventLogReader

    return {
        name: EventLogReader(name, settings, time, clock, meter)
        for name, settings in meter_class.logs.items()
    }
