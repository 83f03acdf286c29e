"""What `check` says of a Modbus line's time: who takes how much of it, and what to change."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from agent.config import AgentConfig, LineConfig
from agent.modbus.budget import FULL, LineBudget, MeterShare, line_budget
from agent.modbus.profile import ProfileError, find

_BAR = 20


def budget_of(config: AgentConfig, line: LineConfig) -> LineBudget | None:
    """The line's budget; None if it is no Modbus line, or a profile cannot be used."""
    meters = config.meters_of(line.name)
    if line.is_dlms or not meters:
        return None
    try:
        profiles = {meter.model: find(meter.model, config.places.path.parent) for meter in meters}
    except ProfileError:
        # `check` names it with the meter.
        return None
    return line_budget(line, meters, profiles, config.sample_s, config.interval_s)


def summary(budget: LineBudget, sample_s: int) -> str:
    """One line: how busy, and whether that is too much."""
    meters = f"{len(budget.shares)} meters" if len(budget.shares) > 1 else "1 meter"
    return (
        f"{meters} take {_span(budget.cycle_s)} of each {sample_s} s (sample_s), "
        f"the line is busy {budget.total:.0%} of the time"
    )


def problem(budget: LineBudget, sample_s: int) -> str:
    """What is wrong with a budget that does not fit, and the first thing to change."""
    change = budget.advice[0] if budget.advice else "spread the meters over more lines"
    return (
        f"{summary(budget, sample_s)}, expected at most {FULL:.0%}: its meters are asked "
        f"less often than configured; {change}"
    )


def table(budget: LineBudget) -> list[str]:
    """One row for all meters of a model, the biggest share first, with a bar of the line's time.

    Then what else could be changed, if the line does not fit.
    """
    rows = []
    by_model = sorted(budget.shares, key=lambda share: share.model)
    groups = [list(group) for _, group in groupby(by_model, key=lambda share: share.model)]
    for group in sorted(groups, key=_total, reverse=True):
        total = _total(group)
        filled = min(_BAR, round(total * _BAR))
        reads = group[0].reads
        rows.append(
            f"{'#' * filled:{_BAR}} {total:6.1%}  {len(group)} x {group[0].model}: "
            f"{reads} read{'s' if reads > 1 else ''}, {_span(group[0].read_s)} each"
        )
    return rows + [f"or {advice}" for advice in budget.advice[1:]]


def _total(shares: Sequence[MeterShare]) -> float:
    return sum(share.share for share in shares)


def _span(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
