"""The widget and the demo shop in a real browser with the real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from rec_assets.serving.http.browser_pages import PAGES
from rec_assets.serving.http.placeholders import draw_category
from rec_assets.serving.index_files.index import Index
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.demo_shop import DemoShop


@dataclass
class Visit:
    """A page of the demo shop, and the errors in its console."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def titles(self, name: str) -> list[str]:
        return [text.strip() for text in self.page.locator(f"#{name} .name").all_inner_texts()]

    def focused(self) -> str:
        return str(self.page.evaluate(FOCUSED))

    def wait_until_list(self, name: str, condition: str, text: str) -> None:
        """Wait until a condition on a list's text, `shown`, and `text` is true."""
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
    page.on("console", lambda message: "Security Policy" in message.text and visit.errors.append(message.text))
    page.goto(f"{storefront.address}/")
    page.locator("#for-you .name").first.wait_for()
    yield visit
    page.close()


def test_a_click_and_a_purchase_change_the_recommendations_and_are_recorded(storefront: DemoShop, visit: Visit) -> None:
    page = visit.page
    assert len(visit.titles("for-you")) == len(visit.titles("buy-again")) == 8
    assert not page.locator("#complements").is_visible()
    before = visit.titles("for-you")
    page.locator("#for-you a").nth(5).click()
    assert page.locator("#product-name").inner_text() == before[5]
    page.locator("#complements .name").first.wait_for()
    page.locator("#similar .name").first.wait_for()
    page.get_by_role("button", name="Add to basket").click()
    page.get_by_text("Basket: 1 item").wait_for()
    page.get_by_role("button", name="Buy").click()
    page.get_by_text("Your basket is empty").wait_for()
    bought = storefront.wait_for("purchase")
    assert [row["quantity"] for row in bought] == [1] and bought[0]["order_id"].startswith("demo-")
    click, cart = storefront.wait_for("click")[0], storefront.wait_for("cart")[0]
    assert (click["customer_id"], click["position"]) == ("c00", 6) and len(click["recommendation_id"]) == 32
    assert click["product_id"] == cart["product_id"] == bought[0]["product_id"]
    visit.wait_until_list("for-you", "!shown.includes(text)", before[5])
    assert before[5] in page.locator("#events").inner_text() and "purchase" in page.locator("#events").inner_text()
    assert (
        "Buy again" in page.locator("#sources").inner_text()
        and "repeat_purchase" in page.locator("#sources").inner_text()
    )
    assert visit.errors == []


def test_impressions_are_recorded_for_visible_items(storefront: DemoShop, visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 700, "height": 300})
    visit.page.reload()
    visit.page.locator("#for-you .name").first.wait_for()
    seen = storefront.wait_for("impression")
    visit.page.wait_for_timeout(1500)
    shown = {name.removeprefix("Product ") for name in visit.titles("buy-again")} - {
        name.removeprefix("Product ") for name in visit.titles("for-you")
    }
    last = [row for row in storefront.events() if row["time"] >= seen[-1]["time"]]
    assert not shown & {row["product_id"] for row in last}
    visit.page.locator("#buy-again").scroll_into_view_if_needed()
    visit.page.wait_for_timeout(1500)
    assert shown & {row["product_id"] for row in storefront.events()}


def test_the_shop_works_with_the_keyboard(storefront: DemoShop, visit: Visit) -> None:
    page, first = visit.page, visit.titles("for-you")[0]
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


def test_axe_finds_no_serious_violation(visit: Visit) -> None:
    visit.page.locator("#for-you a").first.click()
    visit.page.locator("#similar .name").first.wait_for()
    found = Axe().run(visit.page).response["violations"]
    assert [(each["id"], each["help"]) for each in found if each["impact"] in ("serious", "critical")] == []


def test_products_have_pictures_or_drawings_and_a_letter_where_a_picture_fails(visit: Visit) -> None:
    pictures = """() => [...document.querySelector("#for-you").shadowRoot.querySelectorAll("li")].map((entry) => {
      const frame = entry.querySelector(".picture"), image = frame.querySelector("img");
      const isShown = image && image.naturalWidth > 0;
      return [Boolean(entry.item.image), isShown, image?.alt, image?.loading, frame.dataset.letter];
    })"""
    visit.page.wait_for_function(f"() => ({pictures})().some(([has, shown]) => !has && shown)")
    visit.page.wait_for_timeout(500)
    found = visit.page.evaluate(pictures)
    assert {has for has, *_ in found} == {True, False}
    for has_image, is_shown, alt, loading, letter in found:
        assert letter in "tcb"  # tea, china, bath
        if has_image:  # the shop has no such files
            assert is_shown is None or is_shown is False
        elif is_shown:
            assert alt == "" and loading == "lazy"
    assert visit.page.locator("#for-you .picture").first.bounding_box()["width"] > 100  # type: ignore[index]


def test_a_drawing_fits_the_words_of_the_category() -> None:
    bottle, other = draw_category("SOFT DRINKS"), draw_category("BEERS/ALES")
    shape = re.search(r'<path d="([^"]+)"', bottle)
    assert shape and shape[1] in other and shape[1] not in draw_category("COUPONS") and bottle != other
    assert "<script" not in draw_category("<script>alert(1)</script>")


def test_an_outage_hides_the_recommendations_and_breaks_nothing(storefront: DemoShop, visit: Visit) -> None:
    storefront.stop()
    page = visit.page
    page.locator("#for-you a").first.click()
    page.wait_for_function("() => document.querySelector('#for-you').shadowRoot.querySelector('section').hidden")
    assert not page.locator("#for-you h2").is_visible()
    page.locator("#outage").wait_for(timeout=10_000)
    assert page.locator("#product-name").is_visible() and visit.errors == []


def test_events_are_retried_after_outages_and_dropped_after_rejections(storefront: DemoShop, visit: Visit) -> None:
    responses = {
        "p01": lambda route: route.fulfill(status=503, json={}),
        "p02": lambda route: route.fulfill(status=429, json={}),
        "p03": lambda route: route.abort(),
        "p04": lambda route: route.continue_(),
        "p05": lambda route: route.fulfill(status=401, json={}),
        "p06": lambda route: route.continue_(),
    }
    for product, respond in responses.items():
        visit.page.unroute("**/v1/events")
        visit.page.route("**/v1/events", respond)
        visit.page.evaluate("id => document.querySelector('#for-you').record('cart', id)", product)
        visit.page.wait_for_timeout(300)
    found = {row["product_id"] for row in storefront.wait_for("cart")}
    assert found == {"p01", "p02", "p03", "p04", "p06"}


def test_a_new_visitor_gets_recommendations_from_the_session(storefront: DemoShop, visit: Visit) -> None:
    page = visit.page
    page.locator("#customer").select_option("")
    visit.wait_until_list("for-you", "shown.includes(text)", "popular in")
    popular = visit.titles("for-you")
    assert not page.locator("#buy-again").is_visible()
    page.locator("#for-you a").nth(2).click()
    clicked = storefront.wait_for("click")[0]
    assert clicked["customer_id"] is None and clicked["session_id"].startswith("s-")
    visit.wait_until_list("for-you", "shown.includes(text)", "similar to")
    assert visit.titles("for-you") != popular


def test_the_documentation_loads_nothing_from_other_sites(browser: Browser, storefront: DemoShop) -> None:
    page, urls, messages = browser.new_page(), list[str](), list[str]()
    page.on("request", lambda request: urls.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.goto(f"{storefront.address}/docs")
    page.locator(".opblock-summary", has_text="/v1/trending").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    page.locator(".live-responses-table").get_by_text("missing_key").first.wait_for()
    assert all(url.startswith(storefront.address) for url in urls) and messages[1:] == [], "only the 401"
    page.close()


def test_the_widget_is_small_and_has_no_dependencies() -> None:
    code = (PAGES / "widget.js").read_bytes()
    assert len(code) < 10_000 and b"import " not in code
