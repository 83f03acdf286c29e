"""A small town's installation, for one test module at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hil.site.installation import Installation
from hil.site.settings import Settings
from hil.site.town_choice import TownChoice
from hil.town import Town

START_UTC_S = 1_774_699_260
"""2026-03-28 12:01 UTC: the day that follows holds the change to summer time."""
DAY_S = 86_400
RECOVER_DAYS = 2
TOWN = TownChoice(
    "schutterwald",
    origin_utc_s=(START_UTC_S // DAY_S - RECOVER_DAYS - 2) * DAY_S,
    transformers=("t01", "t02"),
    meters_each=16,
)
SETTINGS = Settings(start_utc_s=START_UTC_S, recover_days=RECOVER_DAYS)

MakeSite = Callable[..., Installation]


@pytest.fixture(scope="module")
def town() -> Town:
    """The small town, to choose meters from."""
    return TOWN.load()


@pytest.fixture(scope="module")
def town_choice() -> TownChoice:
    """Which part of the town it is, to take a smaller one."""
    return TOWN


@pytest.fixture(scope="module")
def make_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeSite]:
    """Makes installations of the small town, prepared but not started; ends what they started."""
    made: list[Installation] = []

    def make(*, choice: TownChoice = TOWN, **settings: object) -> Installation:
        # A short path: sockets, PTY links and Mosquitto's paths must fit their limits.
        root = tmp_path_factory.mktemp("site")
        site = Installation(choice, root, replace(SETTINGS, **settings))  # type: ignore[arg-type]
        made.append(site)
        site.prepare()
        return site

    yield make
    for site in made:
        site.stop()
        _keep_logs(site)


def _keep_logs(site: Installation) -> None:
    kept = Path("artefacts") / "chain" / site.root.name
    shutil.rmtree(kept, ignore_errors=True)
    if site.layout.logs.exists():
        shutil.copytree(site.layout.logs, kept)
