"""The page in a real browser, served by central alone over readings that came through the lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

from hil.demo.picture import CHROMIUM, FLAGS
from hil.site.installation import Installation
from hil.site.passing import recovered, wait_for

PICTURES = Path("artefacts") / "page"


@pytest.fixture(scope="module")
def site(make_site) -> Installation:
    site: Installation = make_site()
    site.start_broker()
    site.start_meters()
    site.start_central()
    site.start_agents()
    wait_for(site, lambda: recovered(site), 90.0, "the recovery of two days")
    wait_for(
        site,
        lambda: (
            len(site.get("api/v1/catalog")["days"]) >= 2
            and min(site.get("api/v1/catalog")["coverage"].values()) > 0
        ),
        30.0,
        "the map of the recovered days",
    )
    return site


@pytest.fixture
def page(site: Installation) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        view = browser.new_page(viewport={"width": 1280, "height": 800})
        view.set_default_timeout(60_000)
        view.asked = []  # type: ignore[attr-defined]
        view.complaints = []  # type: ignore[attr-defined]
        view.on("request", lambda request: view.asked.append(request.url))  # type: ignore[attr-defined]
        view.on(
            "console",
            lambda message: (
                view.complaints.append(message.text)  # type: ignore[attr-defined]
                if message.type in ("error", "warning")
                else None
            ),
        )
        view.on("pageerror", lambda error: view.complaints.append(str(error)))  # type: ignore[attr-defined]
        view.goto(site.page)
        view.wait_for_selector("tr[data-id]", state="attached")
        view.wait_for_selector("[data-drawn]", state="attached")
        yield view
        browser.close()


def drawn(page: Page) -> str:
    return page.locator("[data-drawn]").get_attribute("data-drawn") or ""


def seek(page: Page, index: int) -> None:
    before = drawn(page)
    page.locator("[data-part=slider]").fill(str(index))
    page.wait_for_function(
        "drawn => document.querySelector('[data-drawn]').dataset.drawn !== drawn", arg=before
    )


def picture(page: Page, name: str) -> bytes:
    PICTURES.mkdir(parents=True, exist_ok=True)
    return page.locator(".map canvas").first.screenshot(path=PICTURES / f"{name}.png")


def test_the_page_asks_central_alone_and_complains_of_nothing(
    page: Page, site: Installation
) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / "page.png")
    hosts = {urlsplit(url).netloc for url in page.asked if not url.startswith(("data:", "blob:"))}  # type: ignore[attr-defined]
    assert hosts == {urlsplit(site.page).netloc}
    assert page.complaints == []  # type: ignore[attr-defined]


def test_the_slider_changes_the_picture_and_back_is_the_same_picture(page: Page) -> None:
    last = int(page.locator("[data-part=slider]").get_attribute("max") or 0)
    assert last > 96
    seek(page, last - 20)
    time_then = page.locator("[data-part=time]").inner_text()
    evening = picture(page, "evening")
    seek(page, last - 60)
    assert page.locator("[data-part=time]").inner_text() != time_then
    morning = picture(page, "morning")
    assert morning != evening
    seek(page, last - 20)
    assert page.locator("[data-part=time]").inner_text() == time_then


def test_the_transformer_panel_shows_the_values_that_the_api_gives(
    page: Page, site: Installation
) -> None:
    page.click("tr[data-id=t01] button")
    page.wait_for_selector("aside [data-part=now]")
    page.screenshot(path=PICTURES / "panel.png")
    record = site.get("api/v1/transformers/t01")
    text = page.locator("aside").inner_text()
    assert record["identity"]["manufacturer"] in text
    assert record["identity"]["model"] in text
    assert record["identity"]["batch"] in text
    assert "synthetic" in text.lower()
    assert f"{record['loading']['peak_percent']:.1f}" in text
    assert f"{record['loading']['mean_percent']:.1f}" in text
    assert str(record["customers"]) in text
    logs = page.locator("aside [data-part=events]").inner_text()
    assert "event logs" in logs
    asked = [url for url in page.asked if "/transformers/t01/events" in url]  # type: ignore[attr-defined]
    assert len(asked) >= 1


def test_the_shown_load_is_the_apis_value_of_that_interval(page: Page, site: Installation) -> None:
    page.click("tr[data-id=t01] button")
    page.wait_for_selector("aside [data-part=now]")
    last = int(page.locator("[data-part=slider]").get_attribute("max") or 0)
    seek(page, last - 30)
    end_utc_s = json.loads(
        page.evaluate(
            "JSON.stringify(Object.fromEntries(new URLSearchParams(location.hash.slice(1))))"
        )
    )
    days = site.get("api/v1/catalog")["days"]
    ends = [day["first_end_utc_s"] + step * 900 for day in days for step in range(day["steps"])]
    load = site.get(f"api/v1/transformers/t01/load?first={ends[0]}&last={ends[-1]}")
    shown = page.locator("aside [data-part=now]").inner_text()
    at = load["end_utc_s"].index(ends[0] + (last - 30) * 900)
    assert load["percent"][at] is not None, end_utc_s
    assert f"{load['percent'][at]:.1f}" in shown


def test_all_of_it_works_by_keyboard(page: Page) -> None:
    slider = page.locator("[data-part=slider]")
    slider.focus()
    before = page.locator("[data-part=time]").inner_text()
    page.keyboard.press("ArrowLeft")
    assert page.locator("[data-part=time]").inner_text() != before
    layers = page.locator("input[type=radio]")
    assert layers.count() == 4
    layers.first.focus()
    page.keyboard.press("ArrowDown")
    assert layers.nth(1).is_checked()
    page.locator("tr[data-id=t02] button").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("aside [data-part=now]")
    page.keyboard.press("Escape")
    page.wait_for_selector("aside.panel", state="hidden")


def test_a_time_that_is_typed_in_is_shown_and_one_not_stored_is_refused(page: Page) -> None:
    entry = page.locator("[data-part=entry]")
    page.locator("[data-part=slider]").fill("40")
    wanted = entry.input_value()
    page.locator("[data-part=slider]").fill("90")
    entry.fill(wanted)
    entry.press("Enter")
    assert page.locator("[data-part=slider]").input_value() == "40"
    entry.fill("2001-02-03 04:05")
    entry.press("Enter")
    assert "Stored" in page.locator(".entry-note").inner_text()
    assert page.locator("[data-part=slider]").input_value() == "40"


def test_a_cells_curve_follows_the_shown_day(page: Page, site: Installation) -> None:
    first, second = site.get("api/v1/catalog")["days"][:2]
    page.goto(f"{site.page}#layer=load_density&cell=0")
    page.wait_for_selector("aside [data-part=now]")
    for index, day in ((30, first), (first["steps"] + 30, second)):
        with page.expect_response(lambda answer: "/cells/0/load" in answer.url) as answered:
            page.locator("[data-part=slider]").fill(str(index))
        load = answered.value.json()
        assert answered.value.url.endswith(day["day"])
        drawn_from = load["import_w"][load["end_utc_s"].index(day["first_end_utc_s"] + 30 * 900)]
        shown = "no data" if drawn_from is None else f"{drawn_from / 1000:.2f}"
        page.wait_for_function(
            "shown => document.querySelector('aside [data-part=now]').innerText.includes(shown)",
            arg=shown,
        )


def test_moving_the_slider_inside_a_day_asks_the_centre_for_nothing(page: Page) -> None:
    slider = page.locator("[data-part=slider]")
    seek(page, 20)
    before = [url for url in page.asked if "/layers/" in url]  # type: ignore[attr-defined]
    for index in range(21, 41):
        slider.fill(str(index))
    assert [url for url in page.asked if "/layers/" in url] == before  # type: ignore[attr-defined]
