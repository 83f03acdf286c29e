"""Make the shipped towns from their sources and check the sweep against pandapower.

    pip install pandapower==3.5.6 simbench==1.6.3 emobpy==0.6.2
    python -m hil.make_town schutterwald        # or: city, all

Needed only to make the extracts; running a town needs numpy alone. The result
depends on the seeds and the versions above, not on the day.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from hil.extract import city, report, schutterwald, sources
from hil.extract.draft import Frame, Site, town_of
from hil.extract.tune import apparent_by_kind, days_of_season, tune
from hil.town.shapes import write_shapes
from hil.town.tables import Element, write_table
from hil.town.town import TOWNS, Town, load_town, midnight_utc_s

SHAPES = "shapes_2016.npz"
SEASON = dt.date(2026, 11, 16)
"""Monday of the first of the two weeks whose peaks are brought to the wished ones."""
ABOUT = {"timezone": "Europe/Berlin"}


def main(arguments: list[str] | None = None) -> int:
    """Make the towns that the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hil.make_town", description=__doc__)
    parser.add_argument("town", choices=("schutterwald", "city", "all"))
    parser.add_argument("--no-check", action="store_true", help="leave pandapower's check out")
    options = parser.parse_args(arguments)
    names, table = sources.shapes()
    write_shapes(TOWNS / SHAPES, names, table)
    hours = sources.yearly_hours(names, table)
    made: dict[str, ModuleType] = {"schutterwald": schutterwald, "city": city}
    worst_v = 0.0
    for name, source in made.items():
        if options.town in (name, "all"):
            town = make(name, source, hours)
            report.print_peaks(town, days_of_season(SEASON))
            if not options.no_check:
                worst_v = max(worst_v, report.check_sweep(town, SEASON))
    return 0 if worst_v <= report.TOLERANCE_V else 1


def make(name: str, source: ModuleType, hours: dict[str, float]) -> Town:
    """Cut, tune and write one town."""
    frame = Frame(
        about={
            "id": name,
            "title": source.TITLE,
            **ABOUT,
            "bbox": [],
            "notices": source.NOTICES,
            "synthetic_note": source.SYNTHETIC_NOTE,
        },
        climate=sources.monthly_temperatures(),
        seed=source.SEED,
        primary_pu=source.PRIMARY_PU,
        shapes_file=TOWNS / SHAPES,
        origin_utc_s=midnight_utc_s(2026, 10, 1),
    )
    sites: list[Site] = source.sites(hours)
    town = town_of(sites, frame)
    for site in sites:
        by_kind = apparent_by_kind(town, site.transformer.id, days_of_season(SEASON))
        tune(site, source.prepare(site, by_kind), by_kind)
    write(town_of(sites, frame), TOWNS / name)
    return load_town(name, origin_utc_s=frame.origin_utc_s)


def write(town: Town, folder: Path) -> None:
    """Write grid/ and load/ of a town."""
    town.write_grid(folder / "grid")
    load = folder / "load"
    load.mkdir(parents=True, exist_ok=True)
    write_table(load / "elements.csv", Element, town.elements)
    settings = {"seed": town.seed, "primary_pu": town.primary_pu, "shapes": f"../../{SHAPES}"}
    (load / "load.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    sys.exit(main())
