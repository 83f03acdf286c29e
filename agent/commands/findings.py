"""What `check` and `db check` have looked at, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from agent.commands import EXIT_OK, EXIT_WRONG

if TYPE_CHECKING:
    from agent.modbus.budget import LineBudget


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `problem` is None if it is sound.

    A `warning` is no fault: the agent runs, and something may come of it.
    """

    what: str
    says: str = ""
    problem: str | None = None
    warning: str | None = None
    table: tuple[str, ...] = ()
    """Rows for a reader, below the finding."""
    budget: LineBudget | None = None


def tell(looked_at: Iterable[Finding], *, as_json: bool) -> int:
    """Print the findings; EXIT_WRONG if one is a problem."""
    findings = list(looked_at)
    wrong = sum(finding.problem is not None for finding in findings)
    if as_json:
        shown = [asdict(finding) for finding in findings]
        print(json.dumps({"ok": not wrong, "findings": shown}, indent=1))
        return EXIT_WRONG if wrong else EXIT_OK
    for finding in findings:
        mark = "wrong" if finding.problem else "warn" if finding.warning else "ok"
        print(f"{mark:6}{finding.what:16} {finding.problem or finding.warning or finding.says}")
        for row in finding.table:
            print(f"{'':23}{row}")
    print(f"{wrong} wrong" if wrong else "all is sound")
    return EXIT_WRONG if wrong else EXIT_OK
