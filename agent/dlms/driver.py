"""One DLMS meter as the agent sees it: a sample now, rows of its load profile for the past.

A fresh association each time, ended by DISC; `session()` keeps one for several
reads. The first association reads what never changes (scalers and units,
columns and period of the profile) and the driver keeps it. The serial number
is read with the values, so that an exchanged meter is seen; what was kept of
the old meter is then forgotten, and the new one is learnt and read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.apdu.selection import by_range
from agent.dlms.client import Client
from agent.dlms.errors import AnswerMalformed, LinkLost, MeterDiffers
from agent.dlms.link.frame import client_address
from agent.dlms.link.frame import server_address as encode_server_address
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.load_profile.columns import Columns, Scaling, map_columns
from agent.dlms.load_profile.meter_time import MeterTime
from agent.dlms.meter_class import EXPONENTS, MeterClass, Quantity
from agent.dlms.security.settings import Security
from agent.driver import ProfileRow, Sample
from agent.line.port import Port
from wire.clock import Clock

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class DlmsDriver:
    """Implements `agent.driver.Driver`. Used by the line's own thread only."""

    def __init__(
        self,
        port: Port,
        profile: MeterClass,
        clock: Clock,
        *,
        server_address: str,
        password: bytes | None = None,
    ) -> None:
        """Raises ValueError for an address that does not fit or a missing password."""
        if profile.needs_password and password is None:
            raise ValueError(
                f"meter class {profile.name} associates with a password (LLS) and meter "
                f"{server_address} has none; set password_file for it"
            )
        self._port = port
        self._class = profile
        self._clock = clock
        self._name = f"DLMS meter {server_address} ({profile.name})"
        self._server = encode_server_address(server_address, profile.address_bytes)
        self._client_address = client_address(profile.client_sap)
        self._security = (
            Security(mechanism="lls", password=password) if profile.needs_password else Security()
        )
        self._time = MeterTime(
            profile.utc_offset_min, inverted_deviation=profile.inverted_deviation
        )
        self._client: Client | None = None
        self._scalings: dict[Attribute, Scaling] = {}
        self._columns: Columns | None = None
        self._serial: str | None = None

    @property
    def keeps_profile(self) -> bool:
        return True

    @property
    def serial(self) -> str | None:
        """Serial number as it came with the values read last; None before the first."""
        return self._serial

    @contextmanager
    def session(self) -> Iterator[None]:
        """Keeps one association for the reads inside; raises ReadError when it does not come up."""
        if self._client is not None:
            raise RuntimeError(f"{self._name} already has a session; sessions do not nest")
        with self._new_client() as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None

    def sample(self) -> Sample:
        return self._associated(self._sample)

    def profile(self, first_end_utc_s: int, last_end_utc_s: int) -> list[ProfileRow]:
        return self._associated(
            lambda client: self._profile(client, first_end_utc_s, last_end_utc_s)
        )

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
        with self.session():
            assert self._client is not None
            return read(self._client)

    def _new_client(self) -> Client:
        link = self._class.link
        carrier = HdlcCarrier(
            self._port,
            link,
            client_address=self._client_address,
            server_address=self._server,
            name=self._name,
        )
        return Client(
            carrier,
            self._security,
            name=self._name,
            max_pdu=link.max_pdu,
            lists=link.lists,
            release=link.release,
        )

    def _is_same_meter(self, value: Any) -> bool:
        """Notes the serial number; False when it is another, and all that was kept is forgotten."""
        serial = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        serial = serial.strip("\0 ")
        before, self._serial = self._serial, serial
        if before is None or before == serial:
            return True
        log.warning("%s: serial number was %s, is %s", self._name, before, serial)
        self._scalings.clear()
        self._columns = None
        return False

    def _changes_always(self) -> MeterDiffers:
        return MeterDiffers(
            f"{self._name}: the serial number changes from one read to the next, now "
            f"{self._serial}; check that no two meters have this server address"
        )

    def _sample(self, client: Client) -> Sample:
        quantities = self._class.quantities
        wanted = [self._class.serial, *(quantity.attribute for quantity in quantities.values())]
        for _ in range(2):
            self._learn_scalings(client, quantities.values())
            began_utc_s = self._clock.now_utc_s()
            serial, *raw = client.get_many(wanted)
            middle_utc_s = (began_utc_s + self._clock.now_utc_s()) / 2
            if self._is_same_meter(serial):
                break
        else:
            raise self._changes_always()
        values = {
            name: self._scalings[quantity.attribute].whole(
                self._integer(quantity.attribute, value), EXPONENTS[name]
            )
            for (name, quantity), value in zip(quantities.items(), raw, strict=True)
        }
        return Sample(at_utc_ms=round(middle_utc_s * 1000), serial=self._serial, **values)

    def _integer(self, attribute: Attribute, value: Any) -> int:
        if not isinstance(value, int):
            raise MeterDiffers(f"{self._name}: expected {attribute} to be an integer, is {value!r}")
        return value

    def _profile(self, client: Client, first_utc_s: int, last_utc_s: int) -> list[ProfileRow]:
        for _ in range(2):
            columns = self._columns
            if columns is None:
                columns = self._columns = self._learn_columns(client)
            rows = self._slices(client, columns, first_utc_s, last_utc_s)
            if rows is not None:
                return rows
        raise self._changes_always()

    def _slices(
        self, client: Client, columns: Columns, first_utc_s: int, last_utc_s: int
    ) -> list[ProfileRow] | None:
        """All rows, so many at a time; None when the meter turns out to be another one."""
        buffer = self._class.profile.buffer
        rows: list[ProfileRow] = []
        step_s = self._class.profile.slice_rows * columns.period_s
        for first in range(first_utc_s, last_utc_s + 1, step_s):
            last = min(first + step_s - 1, last_utc_s)
            selection = self._selection(first, last, columns)
            if first == first_utc_s:
                serial, data = client.get_with_data(self._class.serial, buffer, selection)
                if not self._is_same_meter(serial):
                    return None
            else:
                data = client.get_data(buffer, selection)
            rows += columns.rows(data, first, last)
        return rows

    def _selection(self, first_utc_s: int, last_utc_s: int, columns: Columns) -> bytes:
        profile = self._class.profile
        first_utc_s -= profile.widen_rows * columns.period_s
        last_utc_s += profile.widen_rows * columns.period_s
        if profile.whole_hours:
            first_utc_s -= first_utc_s % 3600
            last_utc_s += -last_utc_s % 3600
        return by_range(self._time.octets(first_utc_s), self._time.octets(last_utc_s))

    def _learn_columns(self, client: Client) -> Columns:
        profile = self._class.profile
        captured, period_s = client.get_many([profile.capture_objects, profile.capture_period])
        if not isinstance(period_s, int) or period_s <= 0:
            raise MeterDiffers(
                f"{self._name}: expected a load profile with a capture period in s, is {period_s!r}"
            )
        positions = map_columns(captured, profile, self._name)
        self._learn_scalings(client, profile.columns.values())
        scalings = {
            name: self._scalings[quantity.attribute] for name, quantity in profile.columns.items()
        }
        return Columns(profile, positions, scalings, period_s, self._time, self._name)

    def _learn_scalings(self, client: Client, quantities: Any) -> None:
        """Reads scaler and unit of the registers that are not known yet; raises MeterDiffers."""
        wanted: list[Quantity] = [
            quantity for quantity in quantities if quantity.attribute not in self._scalings
        ]
        if not wanted:
            return
        answers = client.get_many([quantity.attribute.scaler_unit for quantity in wanted])
        for quantity, answer in zip(wanted, answers, strict=True):
            if not isinstance(answer, tuple) or len(answer) != 2:
                raise AnswerMalformed(
                    f"{self._name}: expected scaler and unit of {quantity.attribute}, "
                    f"came {answer!r}"
                )
            scaling = Scaling.of(answer[0], answer[1])
            if scaling.unit != quantity.unit:
                raise MeterDiffers(
                    f"{self._name}: {quantity.attribute} is in {scaling.unit!r}, the meter class "
                    f"{self._class.name} says {quantity.unit!r}; give the meter its right model"
                )
            self._scalings[quantity.attribute] = scaling
