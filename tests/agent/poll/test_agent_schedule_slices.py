"""A slice of recovery takes about two seconds, from the first one on, whatever the line's speed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.poll.schedule import Ask, MeterOnLine, Now, Schedule

T0 = 1_767_225_600
MIDDLE_S = 450.0


@given(end_s=st.floats(0.001, 0.06), association_s=st.floats(0.0, 0.4))
def test_no_slice_takes_much_longer_than_two_seconds(end_s: float, association_s: float) -> None:
    schedule = Schedule(
        [MeterOnLine(keeps_profile=True)], interval_s=900, sample_s=60, now_utc_s=T0 + 1.0
    )
    real_s = 0.0
    sizes = []
    for _ in range(40):
        now = Now(real_s, T0 + MIDDLE_S + real_s)
        ask = schedule.next(now, lambda index: T0)
        assert isinstance(ask, Ask)
        assert ask.why == "recover"
        taken_s = association_s + end_s * ask.most
        assert taken_s < 3.0
        real_s += taken_s
        schedule.answered(ask, now, Now(real_s, T0 + MIDDLE_S + real_s), ask.most)
        sizes.append(ask.most)
    # Nor does it stay short where the line is fast.
    assert sizes[-1] >= min(192, 0.5 * (2.0 - association_s) / end_s)


def test_a_probe_of_a_silent_meter_asks_for_few_intervals() -> None:
    schedule = Schedule(
        [MeterOnLine(keeps_profile=True)], interval_s=900, sample_s=60, now_utc_s=T0 + 1.0
    )
    now = Now(0.0, T0 + MIDDLE_S)
    ask = schedule.next(now, lambda index: T0)
    assert isinstance(ask, Ask)
    schedule.failed(ask, now, Now(1.0, T0 + MIDDLE_S + 1.0))
    probe = schedule.next(Now(30.0, T0 + MIDDLE_S + 30.0), lambda index: T0)
    assert isinstance(probe, Ask)
    assert (probe.why, probe.most) == ("probe", 16)
