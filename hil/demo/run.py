"""The demo: a town's week recovered from its meters, then live, on a map."""

from __future__ import annotations

import argparse
import fcntl
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import IO

from hil.demo.options import DEFAULT_PAGE_PORT
from hil.demo.pace import Pace
from hil.demo.progress import Fleet, fleet_of
from hil.site.installation import Installation, NotReady
from hil.site.ports import PortTaken, free_port, is_free, wanted_port
from hil.site.processes import ProcessDied
from hil.site.settings import Settings
from hil.site.town_choice import TownChoice
from wire.clock import SystemClock

QUARTER_S = 900
DAY_S = 86_400
_MARK = ".loadscape-demo"


def run_demo(options: argparse.Namespace) -> int:
    """Run the demo until Ctrl-C; returns 0 when all was well, 1: a part failed, 2: bad options."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        lock = _lock(options.folder)
        site = _site(options)
    except (PortTaken, ValueError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    try:
        _run(site, options, stop)
    except (ProcessDied, NotReady) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        _say("stopping everything")
        site.stop()
        lock.close()
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def _site(options: argparse.Namespace) -> Installation:
    if options.days < 1:
        raise ValueError(f"--days {options.days}: expected at least 1")
    now_utc_s = int(SystemClock().now_utc_s())
    start_utc_s = (now_utc_s - options.days * DAY_S) // QUARTER_S * QUARTER_S + 60
    settings = Settings(
        start_utc_s=start_utc_s,
        paced=options.paced,
        api_port=_page_port(options.port),
    )
    # The meters were hung a little before the oldest interval that is recovered.
    origin_utc_s = (start_utc_s // DAY_S - settings.recover_days - 2) * DAY_S
    choice = TownChoice(options.town, origin_utc_s)
    _clear(options.folder)
    return Installation(choice, options.folder.resolve(), settings)


def _page_port(port: int | None) -> int:
    if port is None:
        return DEFAULT_PAGE_PORT if is_free(DEFAULT_PAGE_PORT) else free_port()
    return wanted_port(port, "--port") if port else free_port()


def _lock(folder: Path) -> IO[bytes]:
    """Keep the folder for this demo while the file is open; raises ValueError if it is taken."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(folder.name + ".lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ValueError(
            f"--folder {folder}: another demo is running there; stop it (Ctrl-C), or choose "
            "another folder"
        ) from None
    return lock


def _clear(folder: Path) -> None:
    if folder.exists():
        if not (folder / _MARK).exists() and any(folder.iterdir()):
            raise ValueError(
                f"--folder {folder}: it holds files that no demo made; choose an empty folder"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARK).touch()


def _run(site: Installation, options: argparse.Namespace, stop: threading.Event) -> None:
    town = site.town
    _say(
        f"{town.about['title']}: {len(site.devices)} transformers, {len(town.meters)} meters, "
        "simulated loads on real serial lines"
    )
    began_s = time.monotonic()
    site.prepare()
    _say("keys, certificates and configurations made")
    site.start_broker()
    _say(f"broker listens on port {site.broker_port} (TLS 1.3, client certificates)")
    site.start_meters()
    lines = {(meter.transformer, meter.line) for meter in town.meters}
    _say(f"{len(lines)} serial lines up")
    site.start_central()
    _say(f"page: {site.page}")
    site.start_agents()
    _recover(site, stop)
    if stop.is_set():
        return
    _say(f"week recovered in {time.monotonic() - began_s:.0f} s; page: {site.page}")
    if options.picture:
        _take_picture(site.page, options)
    _live(site, options, stop)


def _take_picture(page: str, options: argparse.Namespace) -> None:
    from hil.demo.picture import NoPicture, take_picture

    try:
        take_picture(page, options.picture, select=options.picture_of)
    except NoPicture as error:
        _say(f"no picture: {error}")
    else:
        _say(f"picture of the page: {options.picture}")


def _recover(site: Installation, stop: threading.Event) -> None:
    """Report the fleet's progress line by line until the recovery is complete."""
    said = ("", "")
    while not stop.wait(1.0):
        site.processes.check()
        fleet = fleet_of(site.devices_seen())
        lines = _progress_lines(fleet, len(site.devices))
        for line, before in zip(lines, said, strict=True):
            if line != before:
                _say(line)
        said = lines
        if fleet.recovered_share >= 1.0 and fleet.online == len(site.devices) and fleet.idle:
            return


def _progress_lines(fleet: Fleet, devices: int) -> tuple[str, str]:
    enrolled = f"{fleet.online} of {devices} agents enrolled"
    if fleet.online == devices:
        enrolled = f"{devices} agents enrolled"
    recovered = int(fleet.recovered_share * 100)
    return enrolled, f"week recovered from meters: {recovered} %" if fleet.expected else ""


def _live(site: Installation, options: argparse.Namespace, stop: threading.Event) -> None:
    pace = Pace(site, fixed=options.speed)
    pace.begin()
    _say(f"live: the clock runs {pace.speed:g} times as fast until it reaches now; Ctrl-C stops")
    deadline_s = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
    while time.monotonic() < deadline_s and not stop.wait(1.0):
        site.processes.check()
        for line in pace.follow(fleet_of(site.devices_seen())):
            _say(line)
