"""The page of benchmarks and the bench say the same."""

from pathlib import Path

import pytest

from hil.bench.modbus_cases import CASES, MORE, Case
from hil.bench.modbus_peers import MASTERS

PAGE = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
LINES = PAGE.splitlines()
HEAD = next(line for line in LINES if line.startswith("fault, three reads each"))
WIDTH = 15
"""Of a master's column, with the blank before it."""


@pytest.mark.parametrize("case", CASES + MORE, ids=[case.name for case in CASES + MORE])
def test_the_matrix_on_the_page_has_what_our_reader_must_do(case: Case) -> None:
    begins = case.name + ("  " if case.known else " *")
    (line,) = (line for line in LINES if line.startswith(begins))
    ours = len(line) - WIDTH * (len(MASTERS) - 1)
    assert case.met_by(line[ours - WIDTH : ours].strip())
    assert (f"{case.prototype} right" in line) == (case.prototype is not None)


def test_the_page_has_no_case_that_the_bench_has_not() -> None:
    begin = LINES.index(HEAD)
    named = LINES[begin + 1 : LINES.index("```", begin)]
    cases = [line for line in named if not line.startswith(("=", "r right", "*"))]
    assert len(cases) == len(CASES + MORE)
    assert all(name in HEAD for name in MASTERS)
