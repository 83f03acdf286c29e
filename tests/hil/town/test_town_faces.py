"""What a town's meters show agrees with itself, whoever asks, whenever and in whatever order."""

from __future__ import annotations

from itertools import pairwise

import pytest

from hil.ledger import Ledger
from hil.meters.shown import Shown
from hil.town import Town, load_town, midnight_utc_s

ORIGIN = midnight_utc_s(2026, 10, 23)
NOON = midnight_utc_s(2026, 10, 26) + 43_200


@pytest.fixture(scope="module")
def town() -> Town:
    return load_town("schutterwald", origin_utc_s=ORIGIN)


def test_registers_at_an_edge_equal_the_load_profile(town: Town) -> None:
    for face in town.shown("t14").values():
        for row in face.recorded(NOON - 7200, NOON):
            shown = face.registers(row.end_utc_s)
            assert (shown.import_wh, shown.export_wh, shown.import_varh) == (
                row.import_wh,
                row.export_wh,
                row.import_varh,
            )


def test_registers_never_fall_and_stay_between_the_edges_around_them(town: Town) -> None:
    for face in list(town.shown("t02").values())[::5]:
        before = face.registers(NOON)
        for second in range(0, 1801, 60):
            shown = face.registers(NOON + second + 0.25)
            assert shown.import_wh >= before.import_wh
            assert shown.export_wh >= before.export_wh
            assert shown.import_varh >= before.import_varh
            before = shown
        assert before.import_wh <= face.registers(NOON + 2700).import_wh


def test_the_same_instant_shows_the_same_in_another_process_and_another_order(town: Town) -> None:
    again = load_town("schutterwald", origin_utc_s=ORIGIN)
    late_first = again.shown("t14")
    meter = next(iter(late_first))
    late = late_first[meter].registers(NOON + 86_400)
    early = late_first[meter].registers(NOON - 86_400)
    assert town.shown("t14")[meter].registers(NOON - 86_400) == early
    assert town.shown("t14")[meter].registers(NOON + 86_400) == late


def test_a_range_across_midnight_has_every_quarter_hour_once(town: Town) -> None:
    face = next(iter(town.shown("t14").values()))
    midnight = midnight_utc_s(2026, 10, 25)
    ends = [row.end_utc_s for row in face.recorded(midnight - 3600, midnight + 2 * 86_400)]
    assert ends == list(range(midnight - 3600, midnight + 2 * 86_400 + 1, 900))


def test_no_profile_row_is_older_than_the_towns_origin(town: Town) -> None:
    face = next(iter(town.shown("t14").values()))
    assert face.recorded(ORIGIN - 86_400, ORIGIN + 1800)[0].end_utc_s == ORIGIN + 900
    assert face.recorded(ORIGIN - 86_400, ORIGIN) == []
    assert face.registers(ORIGIN - 86_400) == face.registers(ORIGIN)


def test_the_check_meter_counts_all_customers_and_the_losses(town: Town) -> None:
    faces = town.shown("t03")
    check = town.transformer("t03").check_meter
    energy = {m: _net_wh(face, NOON, NOON + 86_400) for m, face in faces.items()}
    customers = sum(wh for m, wh in energy.items() if m != check)
    losses = energy[check] - customers
    assert 0.002 * customers < losses < 0.06 * customers


def test_the_sun_street_feeds_back_at_noon_in_summer() -> None:
    town = load_town("schutterwald", origin_utc_s=midnight_utc_s(2026, 6, 1))
    check = town.shown("t02")[town.transformer("t02").check_meter]
    rows = check.recorded(midnight_utc_s(2026, 6, 1), midnight_utc_s(2026, 6, 15))
    assert rows[-1].export_wh - rows[0].export_wh > 500_000


def test_plants_export_by_day_and_rest_at_night(town: Town) -> None:
    plant = town.plants[0]
    transformer = next(m.transformer for m in town.meters if m.id == plant.meter)
    face = town.shown(transformer)[plant.meter]
    night = midnight_utc_s(2026, 10, 30) + 3600
    assert face.gauges(night).power_w == 0.0
    assert face.registers(night + 39_600).export_wh > face.registers(night).export_wh
    assert 0 < -face.gauges(night + 39_600).power_w <= plant.rated_w


def test_a_charger_never_draws_more_than_its_rating(town: Town) -> None:
    ratings = {c.meter: c.rated_w for c in town.chargers}
    for meter, face in town.shown("t11").items():
        if meter in ratings:
            rows = face.recorded(NOON, NOON + 86_400)
            steps = [b.import_wh - a.import_wh for a, b in pairwise(rows)]
            assert max(steps) * 4 <= ratings[meter] + 4


def test_gauges_agree_with_the_energy_of_their_quarter_hour(town: Town) -> None:
    for face in list(town.shown("t14").values()):
        gauges = face.gauges(NOON + 450)
        energy_wh = _net_wh(face, NOON, NOON + 900)
        assert gauges.power_w / 4 == pytest.approx(energy_wh, abs=2.0)
        row = face.recorded(NOON + 900, NOON + 900)[0]
        assert round(gauges.voltage_v * 10) == row.voltage_dv
        assert round(gauges.current_a * 100) == row.current_ca
        assert 190.0 < gauges.voltage_v < 250.0
        assert 49.9 < gauges.frequency_hz < 50.1


def test_the_ledger_and_the_meter_tell_the_same(town: Town) -> None:
    ledger = Ledger(town)
    meter = town.meters_of("t14")[3]
    rows = ledger.rows(meter.id, NOON, NOON + 3600)
    assert [row.end_utc_s for row in rows] == [NOON + 900 * n for n in range(5)]
    assert rows[0].serial == meter.serial
    shown = ledger.shown_at(meter.id, NOON)
    assert (shown.import_wh, shown.import_varh) == (rows[0].import_wh, rows[0].import_varh)


def test_homes_with_the_same_shape_do_not_behave_alike(town: Town) -> None:
    profile_of = {e.meter: e.profile for e in town.elements if e.kind == "home"}
    faces = town.shown("t13")
    alike = [m for m in faces if profile_of.get(m) == "H0-A"][:2]
    days = [[r.import_wh for r in faces[m].recorded(NOON, NOON + 86_400)] for m in alike]
    steps = [[b - a for a, b in pairwise(day)] for day in days]
    assert len(alike) == 2
    assert steps[0] != steps[1]


def _net_wh(face: Shown, first_utc_s: int, last_utc_s: int) -> int:
    first, last = face.registers(first_utc_s), face.registers(last_utc_s)
    return (last.import_wh - first.import_wh) - (last.export_wh - first.export_wh)
