"""The fault matrix on real PTYs: for every fault, right values or none."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from hil.bench.modbus_cases import CASES, MORE, Case
from hil.bench.modbus_matrix import outcomes
from hil.bench.modbus_peers import ours

AT_ONCE = 8
"""The cases wait rather than work, so many may run side by side."""
KNOWN = [case for case in CASES + MORE if case.known]
UNKNOWABLE = [case for case in MORE if not case.known]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    folder = tmp_path_factory.mktemp("matrix")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            case.name: pool.submit(outcomes, case, ours, folder / str(number))
            for number, case in enumerate(CASES + MORE)
        }


@pytest.mark.parametrize("case", KNOWN, ids=[case.name for case in KNOWN])
def test_no_fault_lets_a_wrong_value_through_and_none_costs_more_reads_than_it_must(
    matrix: dict[str, Future[str]], case: Case
) -> None:
    letters = matrix[case.name].result()
    assert "W" not in letters
    assert letters == case.ours


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_no_fault_of_the_first_comparison_leaves_fewer_right_reads_than_the_prototype_had(
    matrix: dict[str, Future[str]], case: Case
) -> None:
    assert case.prototype is not None
    assert matrix[case.name].result().count("r") >= case.prototype


@pytest.mark.parametrize("case", UNKNOWABLE, ids=[case.name for case in UNKNOWABLE])
def test_what_rtu_cannot_tell_apart_is_read_as_the_documentation_says(
    matrix: dict[str, Future[str]], case: Case
) -> None:
    letters = matrix[case.name].result()
    assert "W" in letters
    assert case.met_by(letters)


def test_the_first_comparison_has_its_23_faults_and_its_prototypes_49_right_reads() -> None:
    assert len(CASES) == 23
    assert sum(case.prototype or 0 for case in CASES) == 49
    assert len({case.name for case in CASES + MORE}) == len(CASES + MORE)


def test_a_reader_that_takes_whatever_comes_is_caught_by_the_matrix(tmp_path: Path) -> None:
    from hil.bench.modbus_peers import pymodbus_sync

    (late,) = (case for case in CASES if case.name.startswith("answer late"))
    assert outcomes(late, pymodbus_sync, tmp_path).count("W") == 2
