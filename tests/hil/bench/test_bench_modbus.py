"""The Modbus part of the bench: its table, its plans, its formula."""

from __future__ import annotations

import pytest

from agent.modbus.planner import Field, Limits, plan
from agent.modbus.profile import parse
from hil.bench.modbus_cases import CASES, MORE
from hil.bench.modbus_cycle import REGISTERS, formula_s, profile_text
from hil.bench.modbus_matrix import Row, Score, run_matrix, table
from hil.bench.modbus_peers import MASTERS
from hil.bench.modbus_plan import COST, LIMIT_MS, by_hole, plan_figures


def test_the_table_has_a_line_for_each_fault_and_sums_what_can_be_known() -> None:
    rows = [Row(case, dict.fromkeys(MASTERS, "rW-")) for case in CASES + MORE]
    lines = table(rows).splitlines()
    assert len(lines) == 1 + len(CASES) + 1 + len(MORE) + 1 + 2
    assert Score.of(rows, "ours") == Score(
        sum(row.case.known for row in rows), sum(row.case.known for row in rows)
    )
    (first,) = (line for line in lines if line.startswith("= first comparison"))
    assert "49 / 0" in first
    assert first.count("23 / 23") == len(MASTERS)


def test_a_library_without_such_a_call_has_neither_right_nor_wrong_reads() -> None:
    cancelled = [case for case in MORE if case.name == "caller cancelled"]
    silent = {name: lambda path, steps, gap_s: [None] * len(steps) for name in MASTERS}
    (row,) = run_matrix(cancelled, silent)
    assert row.letters["ours"] == "---"
    assert row.letters["minimalmodbus"] == "..."
    assert Score.of([row], "minimalmodbus") == Score(0, 0)


def test_the_plan_of_all_maps_is_within_its_limit_and_shorter_than_the_peers() -> None:
    (figure,) = plan_figures()
    assert figure.name == "modbus.plan_ms_16maps_9600"
    assert figure.value <= LIMIT_MS
    assert figure.peer_value is not None
    assert figure.value < figure.peer_value


def test_the_peers_rule_reads_across_a_hole_up_to_its_width_and_no_further() -> None:
    fields = [Field(0, 2), Field(52, 2), Field(105, 2)]
    assert [(r.address, r.count) for r in by_hole(fields, Limits(), 50)] == [(0, 54), (105, 2)]
    assert [r.address for r in by_hole(fields, Limits(max_registers=10), 50)] == [0, 52, 105]


def test_the_benchs_profile_is_one_read_of_eighty_registers() -> None:
    profile = parse(profile_text(), "bench_80.toml")
    fields = {r.field for registers in profile.sample.values() for r in registers}
    assert [read.count for read in plan(fields, COST, profile.limits)] == [REGISTERS]


def test_the_formula_of_a_full_line_is_the_one_worked_by_hand() -> None:
    # (8 + 5 + 160) characters of 10 bits, two silences of 3.5 characters, 40 ms turnaround.
    assert formula_s(1) == pytest.approx(0.1802083 + 2 * 0.0036458 + 0.040)
    assert formula_s(32) == pytest.approx(32 * formula_s(1))
