"""The agent's clock: never below the floor, trusted only when somebody vouches, its steps told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from agent.clock_trust import (
    BUILT_UTC_S,
    FLOOR_SLACK_S,
    WITNESS_OFF_S,
    WITNESS_SPAN_S,
    AgentClock,
    Believed,
    boot_name,
    build_clock,
)
from agent.config import ConfigError, load_config
from wire.clock import SystemClock

TRUE = float(BUILT_UTC_S + 30 * 86_400)


class Machine:
    """A machine's clocks, and whether a time server keeps the one right."""

    def __init__(self, system_utc_s: float, floor_utc_s: float = 0.0) -> None:
        self.true_utc_s = TRUE
        self.off_s = system_utc_s - TRUE
        self.boottime_s = 40.0
        self.synced = False
        self.told: list[tuple[str, str]] = []
        self.clock = AgentClock(
            floor_utc_s=floor_utc_s,
            sources={"timesyncd": lambda: self.synced},
            tell=lambda code, detail: self.told.append((code, detail)),
            system_utc_s=lambda: self.true_utc_s + self.off_s,
            boottime_s=lambda: self.boottime_s,
            boot=b"thisboot",
        )

    def passes(self, seconds: float) -> None:
        self.true_utc_s += seconds
        self.boottime_s += seconds
        self.clock.look()

    def sync(self) -> None:
        self.synced, self.off_s = True, 0.0
        self.passes(6)

    @property
    def wrong_by_s(self) -> float:
        return self.clock.now_utc_s() - self.true_utc_s


def test_a_clock_without_battery_begins_at_the_floor_and_runs_on_from_there() -> None:
    machine = Machine(0.0, floor_utc_s=TRUE - 86_400)
    assert machine.clock.now_utc_s() == TRUE - 86_400
    machine.passes(100)
    assert machine.clock.now_utc_s() == TRUE - 86_400 + 100
    assert not machine.clock.trusted


def test_no_clock_shows_an_instant_before_the_program_was_built() -> None:
    assert Machine(0.0).clock.now_utc_s() == BUILT_UTC_S


def test_a_time_server_is_followed_and_the_step_is_told() -> None:
    machine = Machine(0.0)
    machine.sync()
    assert machine.clock.trusted_by == "timesyncd"
    assert machine.wrong_by_s == 0
    (step, trusted) = machine.told
    assert step == ("clock_step", f"by_s={TRUE - BUILT_UTC_S:.1f}")
    assert trusted == ("clock_trusted", "by=timesyncd")


def test_a_clock_that_a_time_server_set_stays_trusted_while_the_server_is_away() -> None:
    machine = Machine(TRUE)
    machine.sync()
    machine.synced = False
    machine.passes(7 * 86_400)
    assert machine.clock.trusted


def test_a_step_that_nobody_vouches_for_ends_the_trust_and_a_receipt_ends_the_step() -> None:
    machine = Machine(TRUE)
    machine.sync()
    machine.synced = False
    machine.off_s = 7200.0
    machine.passes(0.2)
    assert not machine.clock.trusted
    assert machine.wrong_by_s == 7200
    assert [code for code, _ in machine.told][-2:] == ["clock_step", "clock_untrusted"]
    machine.clock.witness(int(machine.true_utc_s) - 1, 2.0)
    assert machine.clock.trusted_by == "receipt"
    assert abs(machine.wrong_by_s) <= 2
    assert machine.clock.take_set_back_s() == pytest.approx(7200, abs=2)
    assert machine.clock.take_set_back_s() == 0


def test_a_receipt_that_agrees_vouches_without_a_step() -> None:
    machine = Machine(TRUE)
    machine.clock.witness(int(TRUE), 3.0)
    assert machine.clock.trusted_by == "receipt"
    assert machine.told == [("clock_trusted", "by=receipt")]


def test_a_receipt_that_was_long_on_its_way_vouches_for_nothing_but_raises_the_floor() -> None:
    machine = Machine(0.0)
    machine.clock.witness(int(TRUE), WITNESS_SPAN_S + 1)
    assert not machine.clock.trusted
    assert machine.clock.now_utc_s() == TRUE


def test_central_and_a_time_server_that_disagree_are_a_fault_and_nothing_steps() -> None:
    machine = Machine(TRUE)
    machine.sync()
    machine.clock.witness(int(machine.true_utc_s) - 900, 2.0)
    assert machine.wrong_by_s == 0
    assert "timesyncd vouches" in (machine.clock.fault() or "")
    machine.clock.witness(int(machine.true_utc_s), 2.0)
    assert machine.clock.fault() is None


def test_what_a_receipt_showed_of_a_clock_counts_no_more_once_the_clock_was_stepped() -> None:
    machine = Machine(TRUE)
    machine.sync()
    machine.off_s = 900.0
    machine.passes(6)
    machine.clock.witness(int(machine.true_utc_s), 2.0)
    assert "+899 s off" in (machine.clock.fault() or "")
    machine.off_s = 0.0
    machine.passes(6)
    assert machine.clock.fault() is None
    assert machine.wrong_by_s == 0


def test_a_receipt_sets_right_what_drifted_while_no_time_server_was_there() -> None:
    machine = Machine(TRUE)
    machine.sync()
    machine.synced = False
    for _ in range(200):
        machine.off_s += 0.9
        machine.passes(3600)
    assert machine.clock.trusted
    assert machine.wrong_by_s == pytest.approx(180)
    machine.clock.witness(int(machine.true_utc_s), 1.0)
    assert abs(machine.wrong_by_s) <= 1


def test_a_time_server_below_the_floor_is_not_believed() -> None:
    machine = Machine(TRUE, floor_utc_s=TRUE)
    machine.synced, machine.off_s = True, -86_400.0
    machine.passes(6)
    assert not machine.clock.trusted
    assert machine.wrong_by_s >= -FLOOR_SLACK_S - 6


def test_that_nobody_vouches_is_a_fault_only_after_a_while() -> None:
    machine = Machine(TRUE)
    assert machine.clock.fault() is None
    machine.passes(3600)
    assert "nobody vouches" in (machine.clock.fault() or "")


def test_a_machine_names_its_start_and_the_system_may_be_believed() -> None:
    assert boot_name() == boot_name()
    assert len(boot_name()) == 8
    believed = build_clock("system", 0.0, lambda *_: None)
    assert believed.trusted
    assert believed.fault() is None
    assert Believed(SystemClock()).now_utc_s() == pytest.approx(believed.now_utc_s(), abs=1)


def test_the_kernel_and_timesyncd_can_be_asked_on_this_machine() -> None:
    for word in ("auto", "kernel", "timesyncd", "receipt"):
        clock = build_clock(word, 0.0, lambda *_: None)
        assert clock.trusted_by in ("", "kernel", "timesyncd")


def test_a_word_that_no_clock_trust_has_is_refused(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    text = page.read_text().split("```toml agent\n")[1].split("```")[0]
    file = tmp_path / "agent.toml"
    file.write_text(text.replace('clock_trust = "auto"', 'clock_trust = "gps"'))
    with pytest.raises(ConfigError, match="clock_trust: expected one of 'auto'"):
        load_config(file)


def test_asking_for_the_time_loads_no_cryptography() -> None:
    code = "import sys, agent.clock_trust; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens to the machine's clock: what honest witnesses trust is right."""

    @initialize(off_s=st.floats(-1e8, 1e8))
    def the_machine_starts(self, off_s: float) -> None:
        self.machine = Machine(TRUE + off_s)
        self.newest_receipt_utc_s = 0

    @rule(seconds=st.floats(0.1, 5000))
    def time_passes(self, seconds: float) -> None:
        self.machine.passes(seconds)

    @rule(by_s=st.floats(-1e7, 1e7))
    def somebody_sets_the_clock(self, by_s: float) -> None:
        self.machine.synced = False
        self.machine.off_s += by_s
        self.machine.passes(0.2)

    @rule()
    def a_time_server_is_reached(self) -> None:
        self.machine.sync()

    @rule()
    def the_time_server_goes_away(self) -> None:
        self.machine.synced = False

    @rule(span_s=st.floats(0, 100), ago=st.floats(0, 1))
    def a_receipt_comes(self, span_s: float, ago: float) -> None:
        committed_utc_s = int(self.machine.true_utc_s - span_s * ago)
        self.newest_receipt_utc_s = max(self.newest_receipt_utc_s, committed_utc_s)
        self.machine.clock.witness(committed_utc_s, span_s)

    @precondition(lambda self: self.machine.clock.trusted)
    @invariant()
    def what_is_trusted_is_right(self) -> None:
        most_s = WITNESS_SPAN_S + WITNESS_OFF_S + 2
        assert abs(self.machine.wrong_by_s) <= most_s

    @invariant()
    def it_is_never_below_the_floor(self) -> None:
        floor_utc_s = max(BUILT_UTC_S, self.newest_receipt_utc_s)
        assert self.machine.clock.now_utc_s() >= floor_utc_s - FLOOR_SLACK_S - 1


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAnyHistory = AnyHistory.TestCase
