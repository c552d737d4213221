"""The page in a real browser: headless Chromium, driven by Playwright. Skips aloud where either is missing."""

import asyncio
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from compared_store import EVIL, Compared, compared

from telemetry.cli.drawing import page as to_page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (`make test` installs it)")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; install the system's package")

NUMBER_WITH_UNIT = re.compile(r"\d( \[[\d.]+\.\.[\d.]+\])? (J|W|ms|s|1/s|°C|MHz)\b")


@dataclass
class Seen:
    """A page that was opened, and what the browser said of it."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def figures(self) -> list[Any]:
        """Return all figures, each opened."""
        self.page.evaluate("document.querySelectorAll('details.figure').forEach((each) => { each.open = true; })")
        found: list[Any] = self.page.locator("details.figure").all()
        for each in found:
            each.locator(".chart svg").wait_for()
        return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("compared")
    return asyncio.run(compared(folder / "t.db", folder))


@pytest.fixture(scope="module")
def file(shared: Compared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(to_page(shared.document, shared.drawn), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(file: Path) -> Iterator[Any]:
    """Start the browser, after the file is made: Playwright's loop admits no other in its thread."""
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def look(browser: Any, file: Path) -> Iterator[Callable[..., Seen]]:
    """Open the page, in a scheme of colours and so many pixels wide."""
    contexts = []

    def opened(scheme: str = "light", width: int = 1280) -> Seen:
        contexts.append(browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}))
        seen = Seen(page=contexts[-1].new_page())
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("console", lambda message: seen.complaints.append(message.text))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.goto(file.as_uri())
        return seen

    yield opened
    for context in contexts:
        context.close()


def test_the_page_asks_the_network_for_nothing_and_the_console_stays_empty(
    look: Callable[..., Seen], file: Path
) -> None:
    seen = look()
    seen.figures()
    seen.page.locator("details.data > summary").first.click()
    assert [url for url in seen.requests if not url.startswith("data:")] == [file.as_uri()]
    assert seen.complaints == []


def test_every_figure_is_drawn_with_its_axes_labelled(look: Callable[..., Seen], shared: Compared) -> None:
    figures = look().figures()
    assert len(figures) == len(shared.drawn.figures)
    for shown, figure in zip(figures, shared.drawn.figures, strict=True):
        svg = shown.locator(".chart svg")
        texts = svg.locator("text").all_text_contents()
        assert figure.x.label in texts
        for panel in figure.panels:
            assert panel.y.label in texts
        box = svg.bounding_box()
        assert box["height"] > sum(panel.height for panel in figure.panels)
        assert svg.locator("path").count() > 10 * len(figure.panels)
        assert "SIMULATED" in texts


def test_on_a_phone_no_axis_is_cut_and_no_words_lie_under_the_mark(look: Callable[..., Seen], shared: Compared) -> None:
    seen = look(width=390)
    for shown, figure in zip(seen.figures(), shared.drawn.figures, strict=True):
        stamp = shown.locator("svg text", has_text="SIMULATED").first.bounding_box()
        for text in shown.locator("svg text").all():
            box = text.bounding_box()
            apart = box["y"] >= stamp["y"] + stamp["height"] or box["x"] + box["width"] <= stamp["x"]
            assert apart or text.text_content() == "SIMULATED", (figure.key, text.text_content())
        chart = shown.locator(".chart").bounding_box()
        label = shown.locator("svg text", has_text=figure.x.label).bounding_box()
        assert label["x"] + label["width"] <= chart["x"] + chart["width"], figure.key
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390


# The middles of all shapes of a figure; a dot is one of 11 pixels.
MIDDLES = """(figure) => [...figure.querySelectorAll("svg path")].map((path) => path.getBoundingClientRect())
    .filter((box) => box.width > 6 && box.height > 6 && box.height < 60)
    .map((box) => [box.x + box.width / 2, box.y + box.height / 2])"""


def test_the_pointer_is_told_values_with_units(look: Callable[..., Seen]) -> None:
    for shown in look().figures():
        shown.evaluate("(figure) => figure.scrollIntoView()")
        told = ""
        for x, y in shown.evaluate(MIDDLES):
            shown.page.mouse.move(x, y)
            told = " ".join(shown.locator(".tip").all_inner_texts())
            if told:
                break
        assert NUMBER_WITH_UNIT.search(told), shown.get_attribute("id")


def test_the_keyboard_alone_zooms_moves_and_reads_values(look: Callable[..., Seen]) -> None:
    seen = look()
    shown = seen.page.locator("details.figure[id^=timeline]").first
    chart, value = shown.locator(".chart"), shown.locator(".value")
    chart.focus()
    assert chart.evaluate("(element) => getComputedStyle(element).outlineStyle") == "solid"

    def axis() -> list[str]:
        found: list[str] = chart.locator("svg text").all_text_contents()
        return found

    whole = axis()
    chart.press("+")
    closer = axis()
    assert closer != whole
    chart.press("ArrowRight")
    assert axis() != closer
    chart.press("0")
    assert axis() == whole
    chart.press(".")
    first = value.inner_text()
    chart.press(".")
    assert NUMBER_WITH_UNIT.search(value.inner_text())
    assert value.inner_text() != first
    chart.press("Escape")
    assert value.inner_text() == ""
    shown.get_by_role("button", name="Zoom in").press("Enter")
    assert axis() == closer


def test_a_part_that_is_not_known_is_told_as_a_dash_and_never_as_0_percent(look: Callable[..., Seen]) -> None:
    shown = look().page.locator("#split")
    told = []
    for _ in range(12):
        shown.locator(".chart").press(".")
        told.append(shown.locator(".value").inner_text())
    unknown = [text for text in told if ": – J" in text]
    assert unknown
    assert all("– J, – %" in text for text in unknown)


def test_the_numbers_of_a_figure_are_a_table_and_names_in_it_are_text(look: Callable[..., Seen]) -> None:
    seen = look()
    ranking = seen.page.locator("#ranking")
    ranking.locator("details.data > summary").press("Enter")
    table = ranking.locator("details.data table")
    assert EVIL in table.inner_text()
    assert table.locator("tbody tr").count() == 2
    assert table.locator("script").count() == 0


def test_figures_follow_a_dark_screen_and_print_light(look: Callable[..., Seen]) -> None:
    def label(seen: Seen) -> Any:
        return seen.page.locator("#ranking svg text", has_text="energy per output token")

    light, dark = look(), look("dark")
    bright, pale = label(light).get_attribute("fill"), label(dark).get_attribute("fill")
    assert bright != pale
    light.page.emulate_media(color_scheme="dark")
    playwright.expect(label(light)).to_have_attribute("fill", pale)
    dark.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    playwright.expect(label(dark)).to_have_attribute("fill", bright)
    dark.page.evaluate("dispatchEvent(new Event('afterprint'))")
    playwright.expect(label(dark)).to_have_attribute("fill", pale)
    assert dark.page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(look: Callable[..., Seen], scheme: str) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2.2, AA)."""
    names = ("--page", "--card", "--ink", "--soft", "--loud", "--loud-ink")
    read = "(name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()"
    page = look(scheme).page
    colours = {name: page.evaluate(read, name) for name in names}
    pairs = [(word, behind) for word in ("--ink", "--soft", "--loud") for behind in ("--page", "--card")]
    for word, behind in [*pairs, ("--loud-ink", "--loud")]:
        dark, bright = sorted((luminance(colours[word]), luminance(colours[behind])))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, (word, behind)


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
