"""A synthetic fashion and beauty shop: catalog, purchases, browsing and pictures, as a shop lands them.

It is made up, with a known mechanism, so that one knows what a good recommender can find:

- A customer has a look (such as sporty), some favorite colors and brands, a usual price and one size in each category.
  The utility of a style is the sum of what matches, of the style's appeal and of its newness.
- In a session, the customer looks at styles of one category, chosen by softmax of the utility and by the season. They
  may put one on the wishlist or into the cart, and buy one of these days later. So browsing predicts purchases of
  products that the customer never bought before.
- After a piece of clothing, some sessions are about a category that goes with it, in the same look (complements).
- Beauty products are bought again when they are used up, after the same number of days as before.
- Some orders have a neighboring size. These are mostly returned, with the size as the reason, and ordered again.
- Collections start with each season, and old styles are marked down and sold out.
- There is some dirt: lines without a customer or price, repeated lines, a test customer, a bulk order.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from rec_assets.datasets.fashion_pictures import COLORS, draw
from rec_assets.files import write_atomically

LAST_DAY = dt.date(2024, 6, 30)

LOOKS = ("casual", "sporty", "elegant", "romantic", "minimal", "bold")
BRANDS = ("Alder", "Birke", "Calla", "Dunlin", "Ember", "Fjell", "Gingko", "Heron", "Iris", "Juniper")
CLOTHES, SHOES, ONE_SIZE = ("XS", "S", "M", "L", "XL"), ("37", "38", "39", "40", "41", "42", "43"), ("one size",)


@dataclass(frozen=True)
class _Category:
    """A category: its sizes, usual price, share of the styles, and in which months it sells best (0: all)."""

    name: str
    sizes: tuple[str, ...]
    price: float
    share: float
    peak_month: int = 0
    refill_days: int = 0


CATEGORIES = (
    _Category("T-shirts", CLOTHES, 22, 0.16, 6),
    _Category("Knitwear", CLOTHES, 65, 0.10, 12),
    _Category("Dresses", CLOTHES, 80, 0.14, 6),
    _Category("Jackets", CLOTHES, 120, 0.10, 11),
    _Category("Trousers", CLOTHES, 70, 0.14),
    _Category("Sneakers", SHOES, 90, 0.09),
    _Category("Boots", SHOES, 140, 0.07, 11),
    _Category("Bags", ONE_SIZE, 75, 0.08),
    _Category("Lipstick", ONE_SIZE, 18, 0.05, refill_days=55),
    _Category("Skin care", ONE_SIZE, 32, 0.07, refill_days=40),
)
COMPLEMENTS = {
    "Dresses": "Bags",
    "Trousers": "T-shirts",
    "T-shirts": "Trousers",
    "Jackets": "Boots",
    "Knitwear": "Boots",
}

_EVENT_NAMES = {"view": "view_item", "cart": "add_to_cart", "wishlist": "add_to_wishlist",
                "removal": "remove_from_cart", "dismissal": "not_interested", "purchase": "purchase"}  # fmt: skip

SOURCE = """\
description: a synthetic fashion and beauty shop (rec_assets/datasets/fashion.py has its mechanism)
time_zone: Europe/Paris
purchases:
  path: purchases/{date:%Y-%m-%d}.csv
  columns:
    customer_id: customer
    product_id: sku
    time: bought_at
    order_id: order
    quantity: pieces
    unit_price: price
  exclude:
    customer: [TEST]
returns:
  status: {column: kind, values: [return], line_type: return}
  wrong_size: {column: reason, values: [size]}
events:
  - path: events/{date:%Y-%m-%d}.jsonl
    format: jsonl
    time_format: unix_milliseconds
    columns: {type: event_name, customer_id: user_id, session_id: session, product_id: item_id, time: event_timestamp}
    types:
      view: view_item
      cart: add_to_cart
      wishlist: add_to_wishlist
      removal: remove_from_cart
      dismissal: not_interested
      purchase: purchase
catalog:
  path: products.csv
  columns:
    product_id: sku
    variant_of: style
    size: size
    title: name
    category: category
    brand: brand
    price: price
    text: [name, category, brand, description]
    available_from: launched
    image: image
    link: link
    stock: stock
  attributes:
    color: {type: text, taste: true}
    look: {type: text, taste: true}
    margin: {type: number, shown: false}
    launched: date
"""


@dataclass(frozen=True, eq=False)
class Styles:
    """S styles. A style has variants: each of its colors in each size of its category.

    Attributes:
        category, look, brand: (S,) numbers.
        colors: (S, all colors) whether the style has the color.
        appeal, price: (S,).
        launched, ends: (S,) day numbers: first day, and the day on which it is sold out.
        refill_days: (S,) days until a piece is used up; 0 for clothes.
    """

    category: npt.NDArray[np.int64]
    look: npt.NDArray[np.int64]
    brand: npt.NDArray[np.int64]
    colors: npt.NDArray[np.bool_]
    appeal: npt.NDArray[np.float64]
    price: npt.NDArray[np.float64]
    launched: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    refill_days: npt.NDArray[np.int64]

    @classmethod
    def draw(cls, number: int, days: int, rng: np.random.Generator) -> Styles:
        """Random styles. Half are there on the first day; the others come with a collection every 60 days."""
        shares = np.array([each.share for each in CATEGORIES])
        category = rng.choice(len(CATEGORIES), number, p=shares / shares.sum())
        colors = np.zeros((number, len(COLORS)), bool)
        for style in range(number):
            colors[style, rng.choice(len(COLORS), rng.integers(1, 4), replace=False)] = True
        usual = np.array([each.price for each in CATEGORIES])[category]
        refill = np.array([each.refill_days for each in CATEGORIES])[category]
        collections = np.arange(-60, days, 60)
        launched = np.where(rng.random(number) < 0.5, -60, rng.choice(collections, number))
        lifetime = rng.integers(150, 420, number)
        return cls(
            category=category,
            look=rng.integers(len(LOOKS), size=number),
            brand=rng.integers(len(BRANDS), size=number),
            colors=colors,
            appeal=rng.normal(0, 0.7, number),
            price=np.round(usual * np.exp(rng.normal(0, 0.3, number))) - 0.05,
            launched=launched,
            ends=np.where(refill > 0, 10**6, np.maximum(launched, 0) + lifetime),
            refill_days=refill,
        )

    def __len__(self) -> int:
        return len(self.category)

    def price_on(self, style: int, day: int) -> float:
        """The price on a day: a third off after 120 days, except for beauty."""
        is_old = day - max(int(self.launched[style]), 0) > 120 and not self.refill_days[style]
        return round(float(self.price[style]) * (0.67 if is_old else 1.0), 2)

    def sku(self, style: int, color: int, size: str) -> str:
        """Id of a variant."""
        return f"ST{style:04}-{COLORS[color].name[:3].upper()}-{size.replace(' ', '').upper()}"


@dataclass(frozen=True, eq=False)
class _Customers:
    """n customers, with their utility of each style as (n, S) without what depends on the day."""

    utility: npt.NDArray[np.float32]
    clothes_size: npt.NDArray[np.int64]
    shoe_size: npt.NDArray[np.int64]
    favorite_colors: npt.NDArray[np.bool_]
    categories: npt.NDArray[np.float64]
    sessions_per_day: npt.NDArray[np.float64]

    @classmethod
    def draw(cls, number: int, styles: Styles, rng: np.random.Generator) -> _Customers:
        look, brand = rng.dirichlet([0.25] * len(LOOKS), number), rng.dirichlet([0.3] * len(BRANDS), number)
        favorite = np.zeros((number, len(COLORS)), bool)
        for customer in range(number):
            favorite[customer, rng.choice(len(COLORS), 3, replace=False)] = True
        has_favorite = (favorite.astype(np.float32) @ styles.colors.T.astype(np.float32)) > 0
        relative = np.log(styles.price / np.array([each.price for each in CATEGORIES])[styles.category])
        level = rng.normal(0, 0.25, number)
        utility = 3.0 * look[:, styles.look] + 2.0 * brand[:, styles.brand] + 1.2 * has_favorite
        utility += styles.appeal - 2.0 * np.abs(relative[None, :] - level[:, None])
        return cls(
            utility.astype(np.float32),
            np.clip(rng.normal(2, 1, number).round().astype(int), 0, len(CLOTHES) - 1),
            np.clip(rng.normal(3, 1.5, number).round().astype(int), 0, len(SHOES) - 1),
            favorite,
            rng.dirichlet([0.6] * len(CATEGORIES), number),
            np.clip(np.exp(rng.normal(-2.4, 0.7, number)), 0.01, 0.5),
        )


@dataclass(eq=False)
class _Plan:
    """What a customer will do on a day: buy a style, with the size it was ordered in before, or look around."""

    style: int | None = None
    category: int | None = None
    look: int | None = None
    size: str | None = None
    chance: float = 1.0


@dataclass(eq=False)
class FashionShop:
    """Simulates the shop day by day."""

    customers: int
    days: int
    seed: int
    styles: Styles = field(init=False)
    _rows: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list), init=False)
    _events: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list), init=False)
    _plans: dict[tuple[int, int], list[_Plan]] = field(default_factory=lambda: defaultdict(list), init=False)
    _orders: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.styles = Styles.draw(max(80, min(2500, self.customers // 3)), self.days, self.rng)
        self._people = _Customers.draw(self.customers, self.styles, self.rng)
        self.first_day = LAST_DAY - dt.timedelta(days=self.days - 1)

    def simulate(self) -> Iterator[tuple[dt.date, pd.DataFrame, list[dict[str, Any]]]]:
        """Day, lines of the purchase log, and events."""
        for day in range(self.days):
            active = np.flatnonzero(self.rng.random(self.customers) < self._people.sessions_per_day * self._demand(day))
            planned = {customer for customer, when in self._plans if when == day}
            for customer in sorted({*active.tolist(), *planned}):
                self._visit(customer, day, is_planned=customer in planned)
            date = self.first_day + dt.timedelta(days=day)
            lines = pd.DataFrame(self._rows.pop(day, []), columns=["order", "line", "customer", "sku", "bought_at",
                                 "pieces", "price", "kind", "reason"])  # fmt: skip
            yield (
                date,
                self._with_dirt(lines, day),
                sorted(self._events.pop(day, []), key=lambda row: row["event_timestamp"]),
            )

    def _demand(self, day: int) -> float:
        date = self.first_day + dt.timedelta(days=day)
        return (1.3 if date.weekday() >= 5 else 0.95) * (1.4 if date.month in (11, 12) else 1.0)

    def _visit(self, customer: int, day: int, *, is_planned: bool) -> None:
        """One session: what was planned for the day, then a look around."""
        session, time = f"s{customer}-{day}", self._time(day)
        known = self.rng.random() < 0.9  # others browse without signing in
        plans, basket = self._plans.pop((customer, day), []), list[tuple[int, str | None]]()
        for plan in plans:
            if plan.style is None:
                continue
            if self._is_sold(plan.style, day) and self.rng.random() < plan.chance:
                time = self._record("view", customer, plan.style, session, time, known=True)
                time = self._record("cart", customer, plan.style, session, time, known=True)
                basket.append((plan.style, plan.size))
        wanted = next((plan for plan in plans if plan.style is None and self.rng.random() < plan.chance), None)
        if not is_planned or wanted is not None:
            basket += self._look_around(customer, day, session, time, known, wanted)
        if basket:
            self._buy(customer, day, session, time, basket)

    def _look_around(
        self, customer: int, day: int, session: str, time: float, known: bool, wanted: _Plan | None
    ) -> list[tuple[int, str | None]]:
        """Views of one category. Returns what is bought at once."""
        category = self._choose_category(customer, day) if wanted is None else int(wanted.category or 0)
        there = np.flatnonzero(
            (self.styles.category == category) & (self.styles.launched <= day) & (self.styles.ends > day)
        )
        if not len(there):
            return []
        utility = self._people.utility[customer, there].astype(float)
        utility += 1.0 * np.exp(-(day - self.styles.launched[there]) / 45)
        if wanted is not None and wanted.look is not None:
            utility += 1.5 * (self.styles.look[there] == wanted.look)
        chance = np.exp(utility - utility.max())
        number = min(len(there), 2 + int(self.rng.poisson(4)))
        seen = self.rng.choice(there, number, replace=False, p=chance / chance.sum()) if number < len(there) else there
        liked = sorted(seen, key=lambda style: -self._people.utility[customer, style] - self.rng.gumbel() * 0.5)
        for style in seen:
            time = self._record("view", customer, int(style), session, time, known=known)
        if self.rng.random() < 0.08:  # the worst one of those seen
            time = self._record("dismissal", customer, int(liked[-1]), session, time, known=known)
        best = int(liked[0])
        if not known:
            return []
        step = self.rng.random()
        if step < 0.10:
            self._record("cart", customer, best, session, time, known=True)
            return [(best, None)]
        if step < 0.38:
            kind = "wishlist" if step < 0.24 else "cart"
            time = self._record(kind, customer, best, session, time, known=True)
            if kind == "cart" and self.rng.random() < 0.25:
                self._record("removal", customer, best, session, time, known=True)
            else:
                later = day + 1 + int(self.rng.exponential(7))
                self._plans[customer, later].append(_Plan(style=best, chance=0.5))
        return []

    def _choose_category(self, customer: int, day: int) -> int:
        month = (self.first_day + dt.timedelta(days=day)).month
        apart = np.array([min(abs(month - each.peak_month), 12 - abs(month - each.peak_month)) for each in CATEGORIES])
        season = np.where([each.peak_month > 0 for each in CATEGORIES], np.exp(0.8 - 0.45 * apart), 1.0)
        weights = self._people.categories[customer] * season
        return int(self.rng.choice(len(CATEGORIES), p=weights / weights.sum()))

    def _buy(self, customer: int, day: int, session: str, time: float, basket: list[tuple[int, str | None]]) -> None:
        self._orders += 1
        for style, size in dict(basket).items():
            category = CATEGORIES[self.styles.category[style]]
            fitting = self._size(customer, category)
            ordered = size or (fitting if self.rng.random() < 0.85 else self._neighbor(fitting, category))
            line = self._add_line(customer, day, time, style, ordered, "sale", "")
            self._record("purchase", customer, style, session, time, known=True)
            wrong_size = ordered != fitting
            if self.rng.random() < (0.75 if wrong_size else 0.02 if category.refill_days else 0.09):
                back = day + 3 + int(self.rng.integers(15))
                self._add_line(customer, back, time, style, ordered, "return", "size" if wrong_size else "other", line)
                if wrong_size:
                    self._plans[customer, back].append(_Plan(style=style, size=fitting, chance=0.7))
            elif category.refill_days:
                again = day + int(self.rng.normal(self.styles.refill_days[style], 4))
                self._plans[customer, max(again, day + 1)].append(_Plan(style=style, chance=0.75))
            if (other := COMPLEMENTS.get(category.name)) is not None:
                number = [each.name for each in CATEGORIES].index(other)
                later = day + 1 + int(self.rng.exponential(10))
                plan = _Plan(category=number, look=int(self.styles.look[style]), chance=0.5)
                self._plans[customer, later].append(plan)

    def _add_line(
        self, customer: int, day: int, time: float, style: int, size: str, kind: str, reason: str,
        bought: dict[str, Any] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """A line of the purchase log; a return is the same variant at the same price as the one it returns."""
        if bought is None:
            liked = np.flatnonzero(self.styles.colors[style] & self._people.favorite_colors[customer])
            color = int(self.rng.choice(liked if len(liked) else np.flatnonzero(self.styles.colors[style])))
            sku, price = self.styles.sku(style, color, size), self.styles.price_on(style, day)
        else:
            sku, price = bought["sku"], bought["price"]
        row = {
            "order": f"O{self._orders:07}", "line": len(self._rows[day]) + 1, "customer": f"C{customer:05}", "sku": sku,
            "bought_at": f"{self.first_day + dt.timedelta(days=day)} {int(time // 60) % 24:02}:{int(time) % 60:02}",
            "pieces": 1, "price": price, "kind": kind, "reason": reason,
        }  # fmt: skip
        self._rows[day].append(row)
        return row

    def _size(self, customer: int, category: _Category) -> str:
        if category.sizes is ONE_SIZE:
            return ONE_SIZE[0]
        own = self._people.clothes_size if category.sizes is CLOTHES else self._people.shoe_size
        return category.sizes[own[customer]]

    def _neighbor(self, size: str, category: _Category) -> str:
        place = category.sizes.index(size) + int(self.rng.choice([-1, 1]))
        return category.sizes[min(max(place, 0), len(category.sizes) - 1)]

    def _is_sold(self, style: int, day: int) -> bool:
        return bool(self.styles.launched[style] <= day < self.styles.ends[style])

    def _time(self, day: int) -> float:
        """Minutes since midnight: most visits are in the evening."""
        return float(np.clip(self.rng.normal(18 * 60, 180), 60, 23 * 60 + 30))

    def _record(self, kind: str, customer: int, style: int, session: str, time: float, *, known: bool) -> float:
        """An event, named as GA4 does; returns the time of the next one."""
        day = int(session.rpartition("-")[2])
        begin = dt.datetime.combine(
            self.first_day + dt.timedelta(days=day), dt.time(), dt.timezone(dt.timedelta(hours=1))
        )
        self._events[day].append(
            {
                "event_name": _EVENT_NAMES[kind], "user_id": f"C{customer:05}" if known else None, "session": session,
                "item_id": f"ST{style:04}", "event_timestamp": int(1000 * (begin.timestamp() + 60 * time)),
            }
        )  # fmt: skip
        return min(time + float(self.rng.exponential(0.7)), 23 * 60 + 50)

    def _with_dirt(self, lines: pd.DataFrame, day: int) -> pd.DataFrame:
        """A few faulty lines, as logs have them."""
        if len(lines) < 5:
            return lines
        dirty = [lines]
        sample = lines.sample(5, random_state=self.seed + day)
        dirty.append(sample.iloc[:1])  # repeated
        dirty.append(sample.iloc[1:2].assign(customer="", line=9001))
        dirty.append(sample.iloc[2:3].assign(price="", line=9002))
        dirty.append(sample.iloc[3:4].assign(customer="TEST", line=9003))
        if day % 30 == 7:
            dirty.append(sample.iloc[4:5].assign(pieces=500, line=9004, kind="sale"))
        return pd.concat(dirty, ignore_index=True)

    def catalog(self) -> pd.DataFrame:
        """A row for each style, and one for each variant. One in ten variants is out of stock."""
        rows = []
        for style in range(len(self.styles)):
            category, look = CATEGORIES[self.styles.category[style]], LOOKS[self.styles.look[style]]
            name = f"{look.capitalize()} {category.name.lower()} {BRANDS[self.styles.brand[style]]} {style}"
            is_over = self.styles.ends[style] <= self.days
            colors = np.flatnonzero(self.styles.colors[style])
            launched = self.first_day + dt.timedelta(days=int(self.styles.launched[style]))
            about = {
                "name": name, "category": category.name, "brand": BRANDS[self.styles.brand[style]], "look": look,
                "description": f"{look} {category.name.lower()} for every day", "launched": launched,
                "price": self.styles.price_on(style, self.days), "margin": round(float(self.rng.uniform(0.2, 0.7)), 2),
                "link": f"https://fashion.example/styles/{style}",
            }  # fmt: skip
            first = f"/storefront/images/{style}-{colors[0]}.svg"
            rows.append({"sku": f"ST{style:04}", "style": "", "image": first, "stock": "", **about})
            for color in colors:
                for size in category.sizes:
                    rows.append(
                        {
                            "sku": self.styles.sku(style, int(color), size), "style": f"ST{style:04}", **about,
                            "image": f"/storefront/images/{style}-{color}.svg", "color": COLORS[color].name,
                            "size": size, "stock": 0 if is_over or self.rng.random() < 0.1 else 12,
                        }
                    )  # fmt: skip
        return pd.DataFrame(rows)

    def write(self, folder: Path) -> None:
        """Write the files of the shop. `fashion.yaml` is last, so that it is there only if all others are."""
        for name in ("purchases", "events", "images"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for style in range(len(self.styles)):
            kind = CATEGORIES[self.styles.category[style]].name
            for color in np.flatnonzero(self.styles.colors[style]):
                picture = draw(kind, COLORS[color], self.styles.look[style])
                (folder / "images" / f"{style}-{color}.svg").write_text(picture, encoding="utf-8")
        for day, lines, events in tqdm(self.simulate(), desc="days", total=self.days, unit=" days", mininterval=1):
            write_atomically(folder / "purchases" / f"{day}.csv", lines.to_csv(index=False))
            text = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events)
            write_atomically(folder / "events" / f"{day}.jsonl", text)
        write_atomically(folder / "products.csv", self.catalog().to_csv(index=False))
        write_atomically(folder / "fashion.yaml", SOURCE)
