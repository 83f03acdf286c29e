"""`./dev soak`: the chain for long, with faults at random, then every row counted.

A small town runs at a fast clock while its agents, collector, loader and
broker are killed or restarted and the clock's speed changes. Which fault
comes when follows from the seed, in real time; what the chain is doing at
that moment does not. At the end everything is left in peace until all that
happened has arrived, and central's readings are compared with the meters' own
ledger.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, Literal

from hil.proof import Proof, prove
from hil.site.installation import Installation, NotReady
from hil.site.passing import recovered, settle
from hil.site.processes import ProcessDied
from hil.site.settings import Settings
from hil.site.town_choice import TownChoice

START_UTC_S: Final = 1_774_699_260
"""2026-03-28 12:01 UTC: the change to summer time lies in the first simulated day."""
TRANSFORMERS: Final = ("t01", "t02")
METERS_EACH: Final = 16
RECOVER_DAYS: Final = 2
QUARTER_S: Final = 900
DAY_S: Final = 86_400
_RECOVERY_PATIENCE_S: Final = 180.0
_PEACE_PATIENCE_S: Final = 180.0
_LOOK_S: Final = 0.1
_BETWEEN_FAULTS_S: Final = (4.0, 16.0)
_DOWN_S: Final = (0.0, 6.0)
_SLOWEST_SHARE: Final = 0.1
_SHOWN_DIFFERENCES: Final = 40

Kind = Literal["kill", "restart", "speed"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong; times in real seconds."""

    kind: Kind
    after_s: float
    """How long after the fault before is over."""
    part: str = ""
    """The process that is killed or restarted."""
    down_s: float = 0.0
    speed: float = 0.0
    """The clock's new speed."""

    def __str__(self) -> str:
        if self.kind == "speed":
            return f"the clock runs at {self.speed:.0f}x"
        verb = "kill -9" if self.kind == "kill" else "stop"
        return f"{verb} {self.part}, back after {self.down_s:.1f} s"


def run_soak(minutes: float, speed: float, seed: int) -> int:
    """Run, prove, report; 0: nothing is wrong, 1: something is, 2: the options cannot be used."""
    if minutes <= 0 or not 1 <= speed <= 600:
        print(
            f"soak: --minutes {minutes:g} --speed {speed:g}: expected more than 0 minutes and a "
            "speed from 1 to 600",
            file=sys.stderr,
        )
        return 2
    stop = threading.Event()
    _stop_on_signals(stop)
    root = Path(tempfile.mkdtemp(prefix="loadscape-soak-"))
    site = _site(root, minutes, speed)
    wrong = True
    try:
        wrong = _soak(site, minutes, speed, seed, stop)
    except (ProcessDied, NotReady) as error:
        _say(site, f"wrong: {error}")
    finally:
        site.stop()
    if wrong:
        print(f"logs and data are kept in {root}", flush=True)
        return 1
    shutil.rmtree(root)
    return 0


def draw_faults(seed: int, devices: Sequence[str], speed: float) -> Iterator[Fault]:
    """Faults without end, the same ones for the same seed; no speed above `speed`."""
    drawn = random.Random(seed)
    kinds: list[tuple[Kind, str, int]] = [
        *(("kill", f"agent-{device}", 2) for device in devices),
        ("kill", "collect", 2),
        ("kill", "load", 2),
        ("kill", "broker", 1),
        ("restart", "broker", 2),
        ("speed", "", 3),
    ]
    while True:
        ((kind, part, _),) = drawn.choices(kinds, [weight for *_, weight in kinds])
        yield Fault(
            kind,
            after_s=drawn.uniform(*_BETWEEN_FAULTS_S),
            part=part,
            down_s=drawn.uniform(*_DOWN_S),
            speed=speed * drawn.uniform(_SLOWEST_SHARE, 1.0),
        )


def _site(root: Path, minutes: float, speed: float) -> Installation:
    # The shared clock never shows an instant later than now, so a long soak begins earlier.
    longest_s = minutes * 60 * speed
    latest_utc_s = int(time.time() - longest_s - DAY_S) // DAY_S * DAY_S + 60
    start_utc_s = min(START_UTC_S, latest_utc_s)
    choice = TownChoice(
        "schutterwald",
        (start_utc_s // DAY_S - RECOVER_DAYS - 2) * DAY_S,
        TRANSFORMERS,
        METERS_EACH,
    )
    return Installation(choice, root, Settings(start_utc_s=start_utc_s, recover_days=RECOVER_DAYS))


def _soak(
    site: Installation, minutes: float, speed: float, seed: int, stop: threading.Event
) -> bool:
    """Whether something is wrong."""
    site.prepare()
    site.start_broker()
    site.start_meters()
    site.start_central()
    site.start_agents()
    _say(site, f"{len(site.devices)} agents, {len(site.town.meters)} meters; seed {seed}")
    _watch(site, stop, _RECOVERY_PATIENCE_S, lambda: recovered(site))
    _say(site, f"{RECOVER_DAYS} days recovered from the meters' own profiles; the faults begin")
    site.set_speed(speed)
    faults = _let_faults_happen(site, minutes, speed, seed, stop)
    last_end_utc_s = int(site.clock.now_utc_s() // QUARTER_S) * QUARTER_S
    _say(site, f"{faults} faults; now in peace until everything has arrived")
    settle(site, last_end_utc_s, _PEACE_PATIENCE_S)
    oldest_utc_s = site.settings.start_utc_s - RECOVER_DAYS * DAY_S
    first_end_utc_s = (oldest_utc_s // QUARTER_S + 2) * QUARTER_S
    proof = prove(site, first_end_utc_s, last_end_utc_s, speed)
    _report(proof)
    return bool(proof.wrong) or not proof.intervals


def _let_faults_happen(
    site: Installation, minutes: float, speed: float, seed: int, stop: threading.Event
) -> int:
    """Faults until the time is over or `stop` is set; how many there were."""
    deadline_s = time.monotonic() + minutes * 60
    count = 0
    for fault in draw_faults(seed, site.devices, speed):
        left_s = deadline_s - time.monotonic()
        _watch(site, stop, min(fault.after_s, left_s))
        if stop.is_set() or fault.after_s >= left_s:
            break
        _say(site, str(fault))
        _happen(site, fault, stop)
        count += 1
    return count


def _happen(site: Installation, fault: Fault, stop: threading.Event) -> None:
    if fault.kind == "speed":
        site.set_speed(fault.speed)
        return
    if fault.kind == "kill":
        site.processes.kill(fault.part)
    else:
        site.processes.stop(fault.part)
    _watch(site, stop, fault.down_s)
    if fault.part == "broker":
        site.start_broker()
    elif fault.part.startswith("agent-"):
        site.start_agent(fault.part.removeprefix("agent-"))
    else:
        site.start_central_part(fault.part)


def _watch(
    site: Installation,
    stop: threading.Event,
    real_s: float,
    ready: Callable[[], bool] | None = None,
) -> None:
    """Watch the processes for `real_s`, or until `stop`, or until `ready`.

    Raises ProcessDied, and NotReady if there is something to be ready and it is not.
    """
    deadline_s = time.monotonic() + real_s
    while time.monotonic() < deadline_s and not stop.wait(_LOOK_S):
        site.processes.check()
        if ready is not None and ready():
            return
    if ready is not None and not stop.is_set():
        raise NotReady(f"not recovered within {real_s:.0f} s; look into {site.layout.logs}")


def _report(proof: Proof) -> None:
    print(f"{proof.intervals} intervals equal to the meter's own, to the Wh")
    print(f"{proof.interpolated} intervals interpolated within the bounds of their samples")
    print(f"{proof.missing} intervals reported missing")
    print(f"{len(proof.wrong)} differences")
    for difference in proof.wrong[:_SHOWN_DIFFERENCES]:
        print(f"wrong: {difference}")
    if len(proof.wrong) > _SHOWN_DIFFERENCES:
        print(f"wrong: … and {len(proof.wrong) - _SHOWN_DIFFERENCES} more")
    sys.stdout.flush()


def _say(site: Installation, text: str) -> None:
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(site.clock.now_utc_s()))
    print(f"{shown}  {text}", flush=True)


def _stop_on_signals(stop: threading.Event) -> None:
    """The first signal ends the faults early; a second one ends everything at once."""

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("ending early: settling and proving what there is; again to leave", flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
