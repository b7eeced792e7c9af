"""The widget and the demo shop in a real browser, against the real server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from rec_assets.serving.index import Index
from rec_assets.serving.storefront import PAGES
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.demo_shop import DemoShop


@dataclass
class Visit:
    """A page of the shop, and what its console had to say."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def shelf(self, name: str) -> list[str]:
        return [text.strip() for text in self.page.locator(f"#{name} .name").all_inner_texts()]

    def focused(self) -> str:
        return str(self.page.evaluate(FOCUSED))

    def wait_until_shelf(self, name: str, condition: str, text: str) -> None:
        """Wait until a shelf's text, `shown`, meets a condition on `text`."""
        shown = f"document.querySelector('#{name}').shadowRoot.querySelector('section').textContent"
        self.page.wait_for_function(f"text => {{ const shown = {shown}; return {condition}; }}", arg=text)


FOCUSED = """() => {
  let element = document.activeElement;
  while (element.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
  return element.id || element.innerText;
}"""


@pytest.fixture
def storefront(tmp_path: Path, index: Index) -> Iterator[DemoShop]:
    shop.publish(tmp_path / "serving", index)
    with DemoShop.run(tmp_path) as running:
        yield running


@pytest.fixture
def visit(browser: Browser, storefront: DemoShop) -> Iterator[Visit]:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    visit = Visit(page)
    page.on("pageerror", lambda error: visit.errors.append(str(error)))
    page.on("console", lambda said: "Security Policy" in said.text and visit.errors.append(said.text))
    page.goto(f"{storefront.address}/")
    page.locator("#for-you .name").first.wait_for()
    yield visit
    page.close()


def test_a_click_and_a_basket_change_the_shelves_and_are_recorded(storefront: DemoShop, visit: Visit) -> None:
    page = visit.page
    assert len(visit.shelf("for-you")) == len(visit.shelf("buy-again")) == 8
    assert not page.locator("#goes-with").is_visible()
    before = visit.shelf("for-you")
    page.locator("#for-you a").nth(5).click()
    assert page.locator("#product-name").inner_text() == before[5]
    page.locator("#goes-with .name").first.wait_for()
    page.locator("#similar .name").first.wait_for()
    page.get_by_role("button", name="Put into the basket").click()
    page.get_by_text("Basket: 1 item").wait_for()
    page.get_by_role("button", name="Buy").click()
    page.get_by_text("Your basket is empty").wait_for()
    bought = storefront.wait_for("purchase")
    assert [row["quantity"] for row in bought] == [1] and bought[0]["order_id"].startswith("demo-")
    click, cart = storefront.wait_for("click")[0], storefront.wait_for("cart")[0]
    assert (click["customer_id"], click["position"]) == ("c00", 6) and len(click["recommendation_id"]) == 32
    assert click["product_id"] == cart["product_id"] == bought[0]["product_id"]
    visit.wait_until_shelf("for-you", "!shown.includes(text)", before[5])
    assert before[5] in page.locator("#events").inner_text() and "purchase" in page.locator("#events").inner_text()
    assert "Buy again" in page.locator("#sources").inner_text() and "own" in page.locator("#sources").inner_text()
    assert visit.errors == []


def test_impressions_are_of_what_was_seen(storefront: DemoShop, visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 700, "height": 300})
    visit.page.reload()
    visit.page.locator("#for-you .name").first.wait_for()
    seen = storefront.wait_for("impression")
    visit.page.wait_for_timeout(1500)
    shown = {name.removeprefix("Product ") for name in visit.shelf("buy-again")} - {
        name.removeprefix("Product ") for name in visit.shelf("for-you")
    }
    last = [row for row in storefront.events() if row["time"] >= seen[-1]["time"]]
    assert not shown & {row["product_id"] for row in last}
    visit.page.locator("#buy-again").scroll_into_view_if_needed()
    visit.page.wait_for_timeout(1500)
    assert shown & {row["product_id"] for row in storefront.events()}


def test_the_keyboard_is_enough(storefront: DemoShop, visit: Visit) -> None:
    page, first = visit.page, visit.shelf("for-you")[0]
    page.locator("#customer").focus()
    for _ in range(3):
        page.keyboard.press("Tab")
        if first in visit.focused():
            break
    assert first in visit.focused()
    page.keyboard.press("Enter")
    page.locator("#product").wait_for()
    assert visit.focused() == "product-name"
    page.keyboard.press("Tab")
    assert visit.focused() == "add"
    page.keyboard.press("Enter")
    page.get_by_text("Basket: 1 item").wait_for()
    assert storefront.wait_for("cart")


def test_axe_finds_nothing_serious(visit: Visit) -> None:
    visit.page.locator("#for-you a").first.click()
    visit.page.locator("#similar .name").first.wait_for()
    found = Axe().run(visit.page).response["violations"]
    assert [(each["id"], each["help"]) for each in found if each["impact"] in ("serious", "critical")] == []


def test_an_outage_hides_the_shelves_and_breaks_nothing(storefront: DemoShop, visit: Visit) -> None:
    storefront.stop()
    page = visit.page
    page.locator("#for-you a").first.click()
    page.wait_for_function("() => document.querySelector('#for-you').shadowRoot.querySelector('section').hidden")
    assert not page.locator("#for-you h2").is_visible()
    page.locator("#outage").wait_for(timeout=10_000)
    assert page.locator("#product-name").is_visible() and visit.errors == []


def test_events_wait_while_the_api_can_t_take_them_and_are_dropped_where_it_won_t(
    storefront: DemoShop, visit: Visit
) -> None:
    answers = {
        "p01": lambda route: route.fulfill(status=503, json={}),
        "p02": lambda route: route.fulfill(status=429, json={}),
        "p03": lambda route: route.abort(),
        "p04": lambda route: route.continue_(),
        "p05": lambda route: route.fulfill(status=401, json={}),
        "p06": lambda route: route.continue_(),
    }
    for product, answer in answers.items():
        visit.page.unroute("**/v1/events")
        visit.page.route("**/v1/events", answer)
        visit.page.evaluate("id => document.querySelector('#for-you').record('cart', id)", product)
        visit.page.wait_for_timeout(300)
    found = {row["product_id"] for row in storefront.wait_for("cart")}
    assert found == {"p01", "p02", "p03", "p04", "p06"}


def test_someone_new_is_shown_what_their_session_says(storefront: DemoShop, visit: Visit) -> None:
    page = visit.page
    page.locator("#customer").select_option("")
    visit.wait_until_shelf("for-you", "shown.includes(text)", "popular in")
    popular = visit.shelf("for-you")
    assert not page.locator("#buy-again").is_visible()
    page.locator("#for-you a").nth(2).click()
    clicked = storefront.wait_for("click")[0]
    assert clicked["customer_id"] is None and clicked["session_id"].startswith("s-")
    visit.wait_until_shelf("for-you", "!shown.includes(text)", "popular in")
    assert visit.shelf("for-you") != popular


def test_the_documentation_works_without_any_other_site(browser: Browser, storefront: DemoShop) -> None:
    page, asked, said = browser.new_page(), list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{storefront.address}/docs")
    page.locator(".opblock-summary", has_text="/v1/trending").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    page.locator(".live-responses-table").get_by_text("no_key").first.wait_for()
    assert all(url.startswith(storefront.address) for url in asked) and said[1:] == [], "but for the 401"
    page.close()


def test_the_widget_is_small_and_depends_on_nothing() -> None:
    code = (PAGES / "widget.js").read_bytes()
    assert len(code) < 10_000 and b"import " not in code
