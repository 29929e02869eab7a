"""The page in a real browser, without a network: what a reader does with it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from perdure.evidence.report import Collected, html
from perdure.evidence.report.page import viewer_script
from perdure.evidence.report.sections import sections
from report_world import EVIL

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no chromium, or no chromedriver (.ci/run installs both)"
)
needs_viewer = pytest.mark.skipif(viewer_script() is None, reason="NiiVue was not fetched (make viewer)")

ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1280,1000",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(collected: Collected, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html(collected), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, page: Path) -> Iterator[Any]:
    """The page, freshly loaded; whatever a test does, nothing goes to the console and no request leaves the file."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.as_uri())
    yield browser
    assert browser.get_log("browser") == []
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert asked[0] == page.as_uri()
    assert not [url for url in asked[1:] if not url.startswith(("data:", "blob:"))]


def one(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def every(driver: Any, selector: str) -> list[Any]:
    found: list[Any] = driver.find_elements("css selector", selector)
    return found


def until(driver: Any, script: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not driver.execute_script(f"return {script}"):
        assert time.monotonic() < end, f"never: {script}; {one(driver, '#viewer-state').text}"
        time.sleep(0.1)


def is_seen(driver: Any, selector: str, which: str = "every") -> bool:
    """Of every or of some such element; selenium takes whatever is in closed details for hidden, which paper is not."""
    script = "return Array.from(document.querySelectorAll(arguments[0]))[arguments[1]](one => one.checkVisibility())"
    return bool(driver.execute_script(script, selector, which))


def shown_rows(driver: Any) -> list[list[str]]:
    """The cells of the rows of cases that are not filtered away."""
    script = (
        "return Array.from(document.querySelectorAll('#cases-table tbody tr')).filter(r => !r.hidden)"
        ".map(r => Array.from(r.cells).map(c => c.textContent.trim()))"
    )
    found: list[list[str]] = driver.execute_script(script)
    return found


def test_every_section_opens_and_closes_by_the_keyboard(opened: Any, collected: Collected) -> None:
    from selenium.webdriver.common.keys import Keys

    for section in sections(collected.report):
        details = one(opened, f"#{section.key}")
        before = details.get_property("open")
        summary = details.find_element("css selector", "summary")
        summary.send_keys(Keys.ENTER)
        assert details.get_property("open") is not before
        if before:
            summary.send_keys(Keys.ENTER)
        assert details.find_element("css selector", ".body").is_displayed()
        assert details.find_element("css selector", ".body").text.strip()


def test_all_sections_open_and_close_at_once(opened: Any) -> None:
    one(opened, "#open-all").click()
    assert all(details.get_property("open") for details in every(opened, "details.section"))
    one(opened, "#close-all").click()
    assert not any(details.get_property("open") for details in every(opened, "details.section"))


def test_a_link_to_a_section_opens_it(opened: Any) -> None:
    one(opened, ".contents a[href='#lineage']").click()
    assert one(opened, "#lineage").get_property("open")


def test_the_first_screen_has_verdict_change_and_worst_loss(opened: Any, collected: Collected) -> None:
    for card in every(opened, ".card"):
        assert card.is_displayed()
        assert card.rect["y"] + 40 < 1000
    assert "REJECT" in one(opened, ".card.verdict").text
    assert f"{EVIL} lost." in one(opened, ".card.verdict").text
    assert collected.report.candidate.name in every(opened, ".card")[1].text


def test_cases_are_sorted_by_any_column_both_ways(opened: Any) -> None:
    one(opened, "#cases > summary").click()
    heads = every(opened, "#cases-table th")
    first = [row[0] for row in shown_rows(opened)]
    assert first == [str(k + 1) for k in range(len(first))]
    after = next(k for k, head in enumerate(heads) if head.text.startswith("After"))
    heads[after].find_element("css selector", "button").click()
    rising = [float(row[after]) for row in shown_rows(opened)]
    assert rising == sorted(rising)
    assert heads[after].get_attribute("aria-sort") == "ascending"
    heads[after].find_element("css selector", "button").click()
    assert [float(row[after]) for row in shown_rows(opened)] == rising[::-1]
    domain = next(k for k, head in enumerate(heads) if head.text.startswith("Domain"))
    heads[domain].find_element("css selector", "button").click()
    names = [row[domain] for row in shown_rows(opened)]
    assert names == sorted(names, key=lambda name: name == "scanner-b")  # "<" comes before letters


def test_cases_are_filtered_and_counted(opened: Any, collected: Collected) -> None:
    from selenium.webdriver.support.select import Select

    one(opened, "#cases > summary").click()
    cases = collected.report.cases
    Select(one(opened, "#filter-domain")).select_by_visible_text(EVIL)
    assert {row[1] for row in shown_rows(opened)} == {EVIL}
    assert one(opened, "#count").text == f"3 of {len(cases)} shown"
    subject = next(case.subject for case in cases if case.domain == EVIL)
    one(opened, "#filter-text").send_keys(subject or "")
    assert [row[2] for row in shown_rows(opened)] == [subject]
    one(opened, "#filter-text").clear()
    one(opened, "#filter-text").send_keys("no such case")
    assert shown_rows(opened) == []
    one(opened, "#filter-text").clear()
    one(opened, "#filter-text").send_keys(" ")
    Select(one(opened, "#filter-domain")).select_by_visible_text("all")
    Select(one(opened, "#filter-change")).select_by_visible_text("got worse")
    worse = [case for case in cases if case.change <= -0.0005]
    assert len(shown_rows(opened)) == len(worse) > 0


@needs_viewer
def test_the_viewer_draws_a_volume_and_what_lies_over_it(opened: Any) -> None:
    one(opened, "#pictures > summary").click()
    button = every(opened, "button.view")[0]
    opened.execute_script("arguments[0].click()", button)
    number = button.get_attribute("data-case")
    drawn = {}
    for layer in ("difference", "none", "truth"):
        opened.execute_script("document.querySelector(`input[value=${arguments[0]}]`).click()", layer)
        until(opened, f"document.querySelector('#viewer').dataset.drawn === '{number} {layer}'")
        drawn[layer] = pixels(opened)
    grey = drawn["none"]
    assert (grey.max(axis=2) > 60).mean() > 0.1  # a volume, not a black canvas
    # without colours every pixel is grey; the truth paints in colours
    assert coloured(grey) < 0.001
    assert coloured(drawn["truth"]) > 0.05
    assert not np.array_equal(drawn["truth"], drawn["difference"])


@needs_viewer
def test_the_sliders_move_the_planes(opened: Any) -> None:
    one(opened, "#pictures > summary").click()
    opened.execute_script("document.querySelector('button.view').click()")
    until(opened, "document.querySelector('#viewer').dataset.drawn")
    before = pixels(opened)
    opened.execute_script(
        "const s = document.querySelector('.plane[data-axis=\"2\"]'); s.value = 0.25;"
        "s.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    assert not np.array_equal(pixels(opened), before)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(opened: Any, scheme: str) -> None:
    opened.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    try:
        for selector in ("h1", ".card p", ".card .big", ".line", ".note", "thead th", ".figure.loss", ".chip"):
            for element in every(opened, selector)[:3]:
                assert contrast(opened, element) >= 4.5, f"{scheme}: {selector}"
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


A4 = 680
"""Pixels between the margins of `print.css` on A4: 180 mm."""

CUT_OFF = """
    const wide = element => element.scrollWidth > element.clientWidth + 1
        && getComputedStyle(element).overflowX !== 'visible';
    return Array.from(document.querySelectorAll('main *')).filter(element => {
        const box = element.getBoundingClientRect();
        return box.width && (box.right > innerWidth + 1 || box.left < -1 || wide(element));
    }).map(element => `${element.tagName} ${element.className} ${element.textContent.trim().slice(0, 40)}`);
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_everything_is_there_and_nothing_to_press(opened: Any, collected: Collected, scheme: str) -> None:
    """Also where no script opens the sections, on a screen that is dark, and with rows filtered away."""
    one(opened, "#cases > summary").click()
    one(opened, "#filter-text").send_keys("no such case")
    one(opened, "#close-all").click()
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": A4, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    try:
        for card in every(opened, ".card"):
            assert card.is_displayed()
            assert card.rect["y"] + card.rect["height"] < 1000
        assert "REJECT" in one(opened, ".card.verdict").text
        for section in sections(collected.report):
            assert is_seen(opened, f"#{section.key} .body"), section.key
            assert one(opened, f"#{section.key} .body").rect["height"] > 10
        assert is_seen(opened, "#cases-table tbody tr")
        assert len(every(opened, "#cases-table tbody tr")) == len(collected.report.cases)
        assert is_seen(opened, ".picture img")
        assert opened.execute_script(
            "return Array.from(document.querySelectorAll('.picture img')).every(i => i.complete && i.naturalWidth)"
        )
        for control in (".contents", ".filters", ".viewer", ".view", ".skip", "select", "input"):
            assert not is_seen(opened, control, "some"), control
        assert opened.execute_script(CUT_OFF) == []
        ground = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(255, 255, 255)"
        for selector in ("h1", ".card p", ".note", "thead th"):
            assert contrast(opened, every(opened, selector)[0]) >= 4.5, selector
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_printing_leaves_the_page_as_it_was(opened: Any) -> None:
    def are_open() -> list[bool]:
        return [bool(details.get_property("open")) for details in every(opened, "details")]

    before = are_open()
    assert not all(before)
    printed = opened.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True, "printBackground": True})
    content = base64.b64decode(printed["data"])
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 5
    assert are_open() == before


def test_a_narrow_screen_needs_no_scrolling_sideways(opened: Any) -> None:
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        opened.execute_script("document.querySelector('#open-all').click()")
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def pixels(driver: Any) -> np.ndarray[Any, Any]:
    """The canvas as it is seen, `(height, width, 3)`."""
    canvas = one(driver, "#viewer-canvas")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    content = base64.b64decode(canvas.screenshot_as_base64)
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def coloured(picture: np.ndarray[Any, Any]) -> float:
    """The share of pixels that are not grey."""
    return float((picture.max(axis=2) - picture.min(axis=2) > 40).mean())


def contrast(driver: Any, element: Any) -> float:
    """Of a text and the nearest ground below it that is not transparent; WCAG 2.1."""
    script = """
        let node = arguments[0]; const ink = getComputedStyle(node).color; let ground = 'rgb(255, 255, 255)';
        while (node) {
            const found = getComputedStyle(node).backgroundColor;
            if (!found.startsWith('rgba(')) { ground = found; break; }
            node = node.parentElement;
        }
        return [ink, ground].map(c => c.match(/[0-9.]+/g).slice(0, 3).map(Number));
    """
    ink, ground = (luminance(colour) for colour in driver.execute_script(script, element))
    return (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05)


def luminance(colour: list[float]) -> float:
    linear = [
        value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in (c / 255 for c in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
