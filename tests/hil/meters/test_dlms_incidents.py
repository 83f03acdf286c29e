"""What a town's meters have in their logs from the beginning."""

from __future__ import annotations

from hil.meters.climbing import Climbing
from hil.meters.dlms.incidents import write_incidents
from hil.meters.dlms.meter import DlmsMeter

NOW_UTC_S = 1_763_820_003


def _entries(serial: str, now_utc_s: float) -> dict[str, list[tuple[int, int]]]:
    meter = DlmsMeter(Climbing(serial))
    write_incidents(meter, now_utc_s)
    return {log: list(written.entries) for log, written in meter.logs.items()}


def test_a_host_that_starts_again_finds_the_same_entries_and_those_of_days_that_have_passed() -> (
    None
):
    first = _entries("A1", NOW_UTC_S)
    assert _entries("A1", NOW_UTC_S + 60) == first
    later = _entries("A1", NOW_UTC_S + 10 * 86400)
    for log, entries in first.items():
        shared = [entry for entry in later[log] if entry[0] <= NOW_UTC_S]
        assert entries[len(entries) - len(shared) :] == shared


def test_entries_lie_in_the_past_in_order_and_differ_from_meter_to_meter() -> None:
    seen = set()
    for number in range(200):
        logs = _entries(f"B{number}", NOW_UTC_S)
        for entries in logs.values():
            assert entries == sorted(entries)
            assert all(NOW_UTC_S - 61 * 86400 < at <= NOW_UTC_S for at, _ in entries)
        seen |= {(log, code) for log, entries in logs.items() for _, code in entries}
        assert sum(map(len, logs.values())) < 60
    assert {log for log, _ in seen} == {"fraud", "power_quality"}
    assert len(seen) == 8
