"""A traffic simulator: replays later purchases of real customers against the API over HTTP. It proves no effect.

A customer who bought something on a day visits the shop before, gets recommendations, clicks depending on the rank and
on whether they are about to buy the product, and then buys what they really bought. Some purchases are impulsive, some
are returned, browsers send events late or twice, and robots click everything. A ledger has all events and exposures.
Tests compare the reports with it.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import requests

from rec_assets.files import write_atomically
from rec_assets.recsys.data.cleaning import clean_day
from rec_assets.recsys.events import CART, CLICK, IMPRESSION, PURCHASE, RETURN
from rec_assets.sources.catalog import cleaning_settings, read_catalog
from rec_assets.sources.reader import read_day
from rec_assets.sources.spec import DataSource

_BATCH_SIZE, _ROBOT_CLICKS = 500, 400
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True)
class ShopperBehavior:
    """How simulated customers behave; all but `position_bias` and `robots` are probabilities.

    Attributes:
        position_bias: A customer examines rank r with probability r ** -position_bias (Joachims et al. 2017).
        intended_click: Click on an examined product that the customer is about to buy.
        other_click: Click on any other examined product.
        cart: Put a clicked product that the customer is about to buy into the cart.
        impulse: Buy another clicked product.
        visits: Visit on a day without purchases.
        returns: Return a purchase, one to five days later.
        late: Send an event a day late.
        twice: Send an event twice.
        robots: Visitors per day who click far more than a customer.
    """

    position_bias: float = 0.5
    intended_click: float = 0.6
    other_click: float = 0.03
    cart: float = 0.5
    impulse: float = 0.1
    visits: float = 0.05
    returns: float = 0.05
    late: float = 0.1
    twice: float = 0.05
    robots: int = 2


@dataclass
class TrafficLedger:
    """All simulated traffic, independent of what the API recorded.

    Attributes:
        exposures: One per response of an experiment: experiment, variant, ids of the unit, time, recommendation_id.
        events: All events, each once.
    """

    exposures: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the ledger as JSON, readable for its owner and group only, because it names customers."""
        text = {"simulated": True, "exposures": self.exposures, "events": self.events}
        write_atomically(path, json.dumps(text, default=str), private=True)


class Simulator:
    """Simulated traffic for one API.

    Args:
        url: URL of the API.
        key: API key with the scopes `read`, `events`, `sales` and `simulate`.
        purchases: The real purchases: customer_id, product_id, order_id, time (UTC), quantity, unit_price.
        behavior: How customers behave.
        seed: Seed of the random generator.
    """

    def __init__(self, url: str, key: str, purchases: pd.DataFrame, behavior: ShopperBehavior, seed: int = 0) -> None:
        self.url, self.purchases, self.behavior = url.rstrip("/"), purchases.sort_values("time"), behavior
        self.http = requests.Session()
        self.http.headers["X-API-Key"] = key
        self.random = np.random.default_rng(seed)
        self.ledger = TrafficLedger()
        self.prices = purchases.groupby("product_id")["unit_price"].median()  # NaN if the shop has no prices
        self._later: dict[dt.date, list[dict[str, Any]]] = defaultdict(list)
        self._run, self._number = f"simulated-{uuid.uuid4().hex[:8]}", 0

    def run(self, days: list[dt.date], zone: dt.tzinfo, log: Callable[[str], None] = lambda _: None) -> TrafficLedger:
        """Simulate some days in order; returns the ledger.

        Events that the API rejects as implausible, such as a price far above the catalog's, are logged and not in the
        ledger.

        Raises:
            requests.HTTPError: the API rejected a request; the message says why.
        """
        self._zone, self._log = zone, log
        local = self.purchases["time"].dt.tz_convert(zone).dt.date
        by_day = dict(iter(self.purchases.groupby(local)))
        self._about_to_buy: dict[str, set[str]] = {
            str(customer): set(rows["product_id"]) for customer, rows in self.purchases.groupby("customer_id")
        }
        for day in days:
            begin = dt.datetime.combine(day, dt.time(), tzinfo=zone).astimezone(dt.timezone.utc)
            batch = [*self._later.pop(day, []), *self._day(by_day.get(day, self.purchases.iloc[:0]), begin)]
            self._send(batch, _end_of(day, zone))
            log(f"{day}: {len(batch):,} events sent, {len(self.ledger.exposures):,} exposures so far")
        for day in sorted(self._later):
            self._send(self._later[day], _end_of(day, zone))
            log(f"{day}: {len(self._later[day]):,} late events and returns sent")
        return self.ledger

    def _day(self, bought: pd.DataFrame, begin: dt.datetime) -> Iterator[dict[str, Any]]:
        buyers = {str(customer): rows for customer, rows in bought.groupby("customer_id")}
        for customer in self._about_to_buy:
            if customer in buyers:
                first = buyers[customer]["time"].min().to_pydatetime()
                session = yield from self._visit(customer, max(first - dt.timedelta(minutes=30), begin))
                for row in buyers[customer].to_dict("records"):
                    yield from self._purchase(
                        row["product_id"], row["time"].to_pydatetime(), row["unit_price"], quantity=row["quantity"],
                        customer_id=customer, session_id=session, order_id=str(row["order_id"]),
                    )  # fmt: skip
                    self._about_to_buy[customer].discard(row["product_id"])
            elif self.random.random() < self.behavior.visits:
                yield from self._visit(customer, begin + dt.timedelta(hours=float(self.random.uniform(8, 22))))
        for number in range(self.behavior.robots):
            yield from self._robot(f"robot-{number}", begin + dt.timedelta(hours=12))

    def _visit(self, customer: str, time: dt.datetime) -> Generator[dict[str, Any], None, str]:
        """Yield the events of a visit; returns its session id."""
        session = f"{self._run}-{customer}-{time:%Y%m%dT%H%M%S}"
        response = self._request_recommendations(customer, session, time)
        about = {"customer_id": customer, "session_id": session, "recommendation_id": response["recommendation_id"]}
        for item in response["items"]:
            rank, product, time = item["rank"], item["product_id"], time + dt.timedelta(seconds=1)
            yield from self._event(IMPRESSION, product, time, **about, position=rank)
            intended = product in self._about_to_buy[customer]
            click = self.behavior.intended_click if intended else self.behavior.other_click
            if self.random.random() >= rank**-self.behavior.position_bias * click:
                continue
            yield from self._event(CLICK, product, time, **about, position=rank)
            if intended and self.random.random() < self.behavior.cart:
                yield from self._event(CART, product, time, **about, position=rank)
            if not intended and self.random.random() < self.behavior.impulse:
                price = float(self.prices.get(product, item["price"] or math.nan))
                yield from self._purchase(product, time, price, **about, order_id=f"impulse-{session}-{rank}")
        return session

    def _purchase(
        self, product: str, time: dt.datetime, price: float, *, quantity: float = 1.0, **about: Any
    ) -> Iterator[dict[str, Any]]:
        sold: dict[str, Any] = {**about, "quantity": quantity, **({} if math.isnan(price) else {"unit_price": price})}
        yield from self._event(PURCHASE, product, time, **sold)
        if self.random.random() < self.behavior.returns:
            back = time + dt.timedelta(days=int(self.random.integers(1, 6)))
            self._later[back.astimezone(self._zone).date()].extend(
                self._event(RETURN, product, back, **sold, now=False)
            )

    def _robot(self, name: str, time: dt.datetime) -> Iterator[dict[str, Any]]:
        session = f"{self._run}-{name}-{time:%Y%m%d}"
        response = self._request_recommendations(name, session, time)
        ids: dict[str, Any] = {"customer_id": name, "session_id": session}
        for item in response["items"]:
            about = {**ids, "recommendation_id": response["recommendation_id"]}
            yield from self._event(CLICK, item["product_id"], time, **about)
        for product in self.random.permutation(self.prices.index.to_numpy())[:_ROBOT_CLICKS]:
            yield from self._event(CLICK, str(product), time, **ids)

    def _request_recommendations(self, customer: str, session: str, time: dt.datetime) -> dict[str, Any]:
        path = f"/v1/customers/{quote(customer, safe='')}/recommendations"
        response = self._call("GET", path, time, params={"k": 10, "session_id": session})
        for experiment, variant in response["experiments"].items():
            self.ledger.exposures.append(
                {"experiment": experiment, "variant": variant, "customer_id": customer, "session_id": session,
                 "time": time, "recommendation_id": response["recommendation_id"]}
            )  # fmt: skip
        return response

    def _event(
        self, kind: str, product: str, time: dt.datetime, *, now: bool = True, **about: Any
    ) -> Iterator[dict[str, Any]]:
        """Record an event, and yield it to send today, or schedule it for the next day if the browser is late."""
        self._number += 1
        event = {"event_id": f"{self._run}-{self._number}", "type": kind, "product_id": product, "time": time, **about}
        self.ledger.events.append(event)
        times = 2 if self.random.random() < self.behavior.twice else 1
        if now and self.random.random() < self.behavior.late:
            self._later[time.astimezone(self._zone).date() + dt.timedelta(days=1)].extend([event] * times)
        else:
            yield from [event] * times

    def _send(self, events: list[dict[str, Any]], now: dt.datetime) -> None:
        for first in range(0, len(events), _BATCH_SIZE):
            batch = [{**event, "time": event["time"].isoformat()} for event in events[first : first + _BATCH_SIZE]]
            result = self._call("POST", "/v1/events", now, json={"events": batch})
            if rejected := {batch[error["index"]]["event_id"]: error["message"] for error in result["rejected"]}:
                self.ledger.events = [event for event in self.ledger.events if event["event_id"] not in rejected]
                self._log(f"{len(rejected)} events rejected, the first one because of: {next(iter(rejected.values()))}")

    def _call(self, method: str, path: str, now: dt.datetime, **more: Any) -> dict[str, Any]:
        """Send a request at a simulated time, and retry it while the rate limit applies."""
        while True:
            response = self.http.request(
                method, self.url + path, headers={"X-Simulated-Time": now.isoformat()}, timeout=60, **more
            )
            if response.status_code != _TOO_MANY_REQUESTS:
                break
            sleep(float(response.headers.get("Retry-After", 1)))
        if not response.ok:
            raise requests.HTTPError(f"{method} {response.url}: {response.status_code} {response.text[:500]}")
        body: dict[str, Any] = response.json()
        return body


def _end_of(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time.max, tzinfo=zone).astimezone(dt.timezone.utc)


def later_purchases(source: DataSource, days: list[dt.date], customers: int | None) -> pd.DataFrame:
    """The purchases of days after the published index, as `Simulator` needs them.

    Args:
        source: A data source with daily files that have landed for these days.
        days: The days. Days without a file are skipped.
        customers: Maximum number of customers, in the order of their ids; None: all.
    """
    settings = cleaning_settings(source, read_catalog(source).to_pandas())
    frames = [
        clean_day(read_day(source, day, day).to_pandas(), day, settings).cleaned for day in days if source.files(day)
    ]
    if not frames:
        return pd.DataFrame()
    lines = pd.concat(frames, ignore_index=True)
    lines = lines[lines["event"] == PURCHASE].rename(columns={"event_time": "time"})
    chosen = sorted(lines["customer_id"].unique())[:customers]
    columns = ["customer_id", "product_id", "order_id", "time", "quantity", "unit_price"]
    return lines.loc[lines["customer_id"].isin(chosen), columns].reset_index(drop=True)
