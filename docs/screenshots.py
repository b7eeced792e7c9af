"""Take the pictures under docs/images from a running `make ui`, after `make demo` and a simulation of rules.

Needs `pip install playwright` (part of the `dev` extra) and Chromium: `playwright install chromium`, or the path of
one as CHROMIUM. Then, with the same REC_… variables as `make ui`:

    python docs/screenshots.py
"""

import os
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from rec_assets.settings import get_settings

IMAGES = Path(__file__).parent / "images"
SETTLE = 4_000  # ms: the graph is laid out in a web worker, and says nothing when it is done
# Shows paths under REC_HOME as they are by default, `data/…`.
SHORTEN = """([from, to]) => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replace(from, to);
}"""


def open_page(browser: Browser, url: str, width: int, height: int) -> Page:
    """A page, settled, without the dialog that greets a new installation."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(url)
    page.wait_for_timeout(SETTLE)
    skip = page.get_by_role("button", name="Skip", exact=True)
    if skip.count():
        skip.click()
        page.wait_for_timeout(SETTLE)
    return page


def lineage(browser: Browser, ui: str) -> None:
    """The whole graph, from top to bottom, with all groups open and what surrounds it folded away.

    In a window of this size, the UI draws only the names of the assets, which can be read at the width of a page.
    """
    page = open_page(browser, f"{ui}/asset-groups", 2000, 2300)
    page.get_by_text("Hide navigation").click()
    page.get_by_placeholder("Jump to").locator("xpath=following::button[1]").click()
    page.mouse.click(150, 2200, button="right")
    page.locator("[role=menuitem]:visible", has_text="vertical").click()
    page.wait_for_timeout(SETTLE)
    page.keyboard.press("Alt+KeyE")
    page.wait_for_timeout(SETTLE)
    page.mouse.dblclick(120, 2200)  # off the graph: nothing is selected
    page.mouse.move(75, 400)
    page.wait_for_timeout(SETTLE)
    page.screenshot(path=IMAGES / "lineage.png", clip={"x": 105, "y": 208, "width": 1570, "height": 1915})


def evaluation(browser: Browser, ui: str) -> None:
    """The asset page of the newest report, without the table of its columns."""
    page = open_page(browser, f"{ui}/assets/evaluation_report", 1500, 1030)
    page.get_by_text("Columns", exact=True).click()
    page.wait_for_timeout(SETTLE)
    page.evaluate(SHORTEN, [str(get_settings().root), "data"])
    page.screenshot(path=IMAGES / "evaluation.png")


def report(browser: Browser) -> None:
    """The top of the newest HTML report."""
    newest = max(get_settings().reports.glob("date=*/evaluation.html"))
    open_page(browser, newest.as_uri(), 1100, 1300).screenshot(path=IMAGES / "report.png")


def rules(browser: Browser) -> None:
    """The trade-off of slow movers, of the page that `rec-assets rules simulate` writes (docs/rules.md)."""
    page = open_page(browser, (get_settings().reports / "rules.html").as_uri(), 1100, 1300)
    page.locator("section").first.screenshot(path=IMAGES / "rules.png")


def main() -> None:
    """All of them."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM"),
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
        )
        ui = f"http://localhost:{get_settings().ui_port}"
        lineage(browser, ui)
        evaluation(browser, ui)
        report(browser)
        rules(browser)
        browser.close()


if __name__ == "__main__":
    main()
