"""Each meter class that ships reads the model of the bench that it is made for."""

from __future__ import annotations

from fractions import Fraction

import pytest

from agent.dlms.apdu.attribute import Attribute
from agent.dlms.client import Client
from agent.dlms.driver import DlmsDriver
from agent.dlms.errors import AccessRefused
from agent.dlms.link.frame import client_address, server_address
from agent.dlms.link.hdlc_carrier import HdlcCarrier
from agent.dlms.load_profile.scaling import NO_TRANSFORMERS, Transformers
from agent.dlms.meter_class import load_meter_class
from agent.dlms.security.settings import Keys, Security
from hil.meters.climbing import Climbing
from hil.meters.dlms.bus import DlmsBus
from hil.meters.dlms.load_profile import LoadProfile
from hil.meters.dlms.meter import MODELS, DlmsMeter
from hil.meters.dlms.security import MeterSecurity
from tests.agent.dlms.conftest import NOW_UTC_S, StoppedClock, Wire, quick

ADDRESS = "1/17"
KEYS = Keys(bytes(range(16)), bytes(range(16, 32)))
EDGE = NOW_UTC_S - NOW_UTC_S % 900


class Counter:
    """Invocation counters that begin low."""

    def __init__(self) -> None:
        self.last = 0

    def next(self) -> int:
        self.last += 1
        return self.last

    def raise_above(self, value: int) -> None:
        self.last = max(self.last, value)


def carrier_to(bus: DlmsBus, name: str, sap: int) -> HdlcCarrier:
    return HdlcCarrier(
        Wire(bus),
        quick(load_meter_class(name)).link,
        client_address=client_address(sap),
        server_address=server_address(ADDRESS),
        name="meter",
    )


def a_driver(name: str, meter: DlmsMeter, transformers: Transformers) -> DlmsDriver:
    bus = DlmsBus({ADDRESS: meter}, StoppedClock())
    security = Security("lls", password=b"loadscape")
    if meter.security is not None:
        security = Security(
            "hls-gmac", "global", keys=KEYS, client_title=b"LSA\x00\x00\x00\x00\x07",
            counter=Counter(),
        )  # fmt: skip
    return DlmsDriver(
        lambda sap: carrier_to(bus, name, sap),
        quick(load_meter_class(name)),
        StoppedClock(),
        security=security,
        name="meter",
        transformers=transformers,
    )


@pytest.mark.parametrize("secured", ["", "_gmac"])
@pytest.mark.parametrize("model", sorted(MODELS))
def test_each_class_that_ships_reads_its_model(model, secured):
    meter = DlmsMeter(Climbing(), model)
    if secured:
        # The meter has seen higher counters than ours: the first refusal says so.
        meter.security = MeterSecurity(KEYS.encryption, KEYS.authentication, heard=5000)
    ratios = MODELS[model].ratios
    transformers, current = NO_TRANSFORMERS, 1
    if ratios is not None:
        current = ratios[0]
        transformers = Transformers(current=Fraction(ratios[0]), voltage=Fraction(ratios[1]))
    driver = a_driver(model + secured, meter, transformers)
    sample = driver.sample()
    shown = Climbing().registers(NOW_UTC_S)
    assert sample.serial == "LS0000001"
    assert (sample.import_wh, sample.export_wh, sample.import_varh) == (
        shown.import_wh * current,
        shown.export_wh * current,
        shown.import_varh * current,
    )
    assert (sample.voltage_dv, sample.current_ca) == (2312, 1300 * current)
    if ratios is not None:
        assert sample.power_w == 3000 * current
    rows = driver.profile(EDGE - 20 * 900, EDGE)
    written = LoadProfile(meter, NOW_UTC_S).rows(EDGE - 20 * 900, EDGE)
    assert [(row.end_utc_s, row.import_wh, row.current_ca) for row in rows] == [
        (row.end_utc_s, row.import_wh * current, row.current_ca * current) for row in written
    ]
    meter.log_event("fraud", 40, NOW_UTC_S)
    assert [event.code for event in driver.events("fraud", 0)] == [40]


def objects_of(model: str) -> Client:
    bus = DlmsBus({ADDRESS: DlmsMeter(Climbing(), model)}, StoppedClock())
    security = Security("lls", password=b"loadscape")
    return Client(carrier_to(bus, model, 1), security, name="meter")


def shown_wh() -> int:
    return Climbing().registers(NOW_UTC_S).import_wh


@pytest.mark.parametrize(
    ("model", "attribute", "value"),
    [
        ("idis_residential", "3/1.0.1.8.2.255/2", shown_wh() // 3),
        ("idis_residential", "3/1.0.1.8.4.255/2", 0),
        ("idis_residential", "70/0.0.96.3.10.255/2", True),
        ("ct_meter", "1/1.0.0.4.2.255/2", 40),
        ("ct_meter", "1/1.0.0.4.3.255/2", 1),
        ("ct_meter", "3/1.0.13.7.0.255/2", 998),
        ("ct_meter", "3/1.0.13.7.0.255/3", (-3, 255)),
        ("ct_meter", "3/1.0.14.7.0.255/2", 5000),
        ("ct_meter", "4/1.0.1.6.0.255/2", 3000),
        ("ct_meter", "4/1.0.1.6.0.255/3", (0, 27)),
        ("transformer_check", "3/1.0.72.7.0.255/2", 2312),
        ("transformer_check", "3/1.0.41.7.0.255/2", 1000),
        ("transformer_check", "3/1.0.51.7.0.255/2", 1300),
    ],
)
def test_a_model_has_the_objects_of_its_kind(model, attribute, value):
    with objects_of(model) as client:
        assert client.get(Attribute.parse(attribute)) == value


def test_quadrants_of_a_ct_meter_add_up_and_its_profile_holds_them():
    quadrants = [Attribute.parse(f"3/1.0.{number}.8.0.255/2") for number in (5, 6)]
    total = Attribute.parse("3/1.0.3.8.0.255/2")
    with objects_of("ct_meter") as client:
        first, second, both = client.get_many([*quadrants, total])
        assert first + second == both > first > second > 0
        captured = client.get(Attribute.parse("7/1.0.99.1.0.255/3"))
    assert [entry[1] for entry in captured][-2:] == [attribute.name for attribute in quadrants]


@pytest.mark.parametrize(
    ("model", "attribute"),
    [
        ("idis_residential", "3/1.0.13.7.0.255/2"),
        ("idis_residential", "4/1.0.1.6.0.255/2"),
        ("transformer_check", "1/1.0.0.4.2.255/2"),
        ("ct_meter", "3/1.0.52.7.0.255/2"),
        ("ct_meter", "3/1.0.1.8.0.255/7"),
    ],
)
def test_a_model_has_no_objects_of_another_kind(model, attribute):
    with objects_of(model) as client, pytest.raises(AccessRefused, match="object-undefined"):
        client.get(Attribute.parse(attribute))


def test_primary_values_are_not_multiplied_again():
    with pytest.raises(ValueError, match="primary"):
        a_driver(
            "transformer_check",
            DlmsMeter(Climbing(), "transformer_check"),
            Transformers(current=Fraction(40)),
        )
