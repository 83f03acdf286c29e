"""A picture of the page, as a person would see it; needs chromium and playwright."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Draws without a GPU, and asks nobody outside this machine for anything."""

_PATIENCE_MS = 60_000


class NoPicture(RuntimeError):
    """The picture cannot be taken on this machine."""


def take_picture(
    page: str,
    file: Path,
    *,
    select: Sequence[str] = (),
    width: int = 1440,
    height: int = 900,
) -> None:
    """Write a PNG of the page at the address `page`; raises NoPicture without browser or driver.

    Waits until the map is drawn; opens the panels of the transformers in `select`.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise NoPicture("the package playwright is not installed; run ./dev setup dev") from error
    if not Path(CHROMIUM).exists():
        raise NoPicture(f"{CHROMIUM} is not there; run ./dev setup dev")
    file.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            view = browser.new_page(viewport={"width": width, "height": height})
            view.goto(page, timeout=_PATIENCE_MS)
            view.wait_for_selector("tr[data-id]", state="attached", timeout=_PATIENCE_MS)
            if not select:
                view.wait_for_selector("[data-drawn]", state="attached", timeout=_PATIENCE_MS)
            for transformer in select:
                drawn = view.locator("[data-drawn]").get_attribute("data-drawn")
                view.click(f"tr[data-id={transformer}] button")
                view.wait_for_selector("aside [data-part=now]", timeout=_PATIENCE_MS)
                view.wait_for_function(
                    "drawn => document.querySelector('[data-drawn]').dataset.drawn !== drawn",
                    arg=drawn,
                )
            view.screenshot(path=file)
        finally:
            browser.close()
