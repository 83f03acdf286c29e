"""Lets time pass on an installation, and waits until all that happened has arrived."""

from __future__ import annotations

import time
from collections.abc import Callable

from central.collect.journal import JournalReader
from central.config import load_config
from central.readings.lake import DeltaLake
from central.readings.loader import LOADER
from hil.site.installation import Installation, NotReady

_LOOK_S = 0.1


def pass_until(site: Installation, utc_s: float) -> None:
    """Wait until the shared clock shows `utc_s`, watching the processes."""
    while (left_s := site.clock.real_s_until(utc_s)) > 0:
        site.processes.check()
        time.sleep(min(_LOOK_S, left_s))


def settle(site: Installation, last_end_utc_s: int, patience_s: float = 90.0) -> None:
    """Slow the clock to 1x and wait until the interval ending then has arrived from everyone.

    Arrived means: every agent has closed it, no agent holds an unreceipted
    batch, and the loader has taken in all that the collector has committed.
    Raises NotReady after `patience_s` real seconds.
    """
    site.set_speed(1.0)
    wait_for(site, lambda: _all_sent(site, last_end_utc_s), patience_s, "the agents' outboxes")
    wait_for(site, lambda: _all_loaded(site), patience_s, "the loader")


def wait_for(site: Installation, ready: Callable[[], bool], patience_s: float, what: str) -> None:
    """Wait until `ready`, watching the processes; raises NotReady."""
    deadline_s = time.monotonic() + patience_s
    while not ready():
        site.processes.check()
        if time.monotonic() > deadline_s:
            raise NotReady(
                f"{what}: not done within {patience_s:.0f} s; devices: {site.devices_seen()}"
            )
        time.sleep(_LOOK_S)


def recovered(site: Installation) -> bool:
    """Whether every agent has recovered its meters' profiles and central holds all of it."""
    seen = site.devices_seen()
    states = [device["state"] for device in seen if device["online"] and device["state"]]
    return (
        len(states) == len(site.devices)
        and all(0 < s["recovery"]["expected"] <= s["recovery"]["known"] for s in states)
        and all(state["outbox"] == 0 for state in states)
        and _all_loaded(site)
    )


def _all_sent(site: Installation, last_end_utc_s: int) -> bool:
    states = [device["state"] for device in site.devices_seen() if device["online"]]
    return len(states) == len(site.devices) and all(
        state
        and (state["last_end_utc_s"] or 0) >= last_end_utc_s
        and state["outbox"] == 0
        and state["recovery"]["known"] >= state["recovery"]["expected"]
        for state in states
    )


def _all_loaded(site: Installation) -> bool:
    config = load_config(site.layout.central_config)
    watermark = DeltaLake(config.lake_dir).watermark(LOADER)
    journal = JournalReader(config.journal_dir)
    try:
        return not journal.after(watermark, most_bytes=1)
    finally:
        journal.close()
