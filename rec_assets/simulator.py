"""A traffic simulator: real customers' later purchases, played against the API over HTTP. It is evidence of nothing.

Whoever bought something on a day visits the shop before, sees what the API recommends, clicks by place and by whether
they were about to buy it, and buys what they did buy. Some buy on impulse, some return, browsers send late or twice,
robots click everything. What was sent is kept in a ledger, by which the reports can be checked.
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

from rec_assets.files import write_whole
from rec_assets.recsys.data.cleaning import CleaningRules, clean_day
from rec_assets.recsys.events import CART, CLICK, IMPRESSION, PURCHASE, RETURN
from rec_assets.sources.reader import read_day
from rec_assets.sources.spec import Source

_AT_ONCE, _ROBOT_CLICKS = 500, 400
_TOO_FAST = 429


@dataclass(frozen=True)
class World:
    """How simulated shoppers behave.

    Attributes:
        seen: A place r of a list is looked at with chance r ** -seen (Joachims et al. 2017).
        keen: Chance that a product that one is about to buy is clicked, once looked at.
        curious: The same for any other.
        basket: Chance that what was clicked and is about to be bought goes into the basket.
        impulse: Chance that what was clicked is bought though nobody was about to.
        visits: Chance of a visit on a day without purchases.
        returns: Chance that a purchase comes back, one to five days later.
        late: Chance that an event is sent a day late.
        twice: Chance that it is sent again.
        robots: Visitors a day who click far more than a shopper.
    """

    seen: float = 0.5
    keen: float = 0.6
    curious: float = 0.03
    basket: float = 0.5
    impulse: float = 0.1
    visits: float = 0.05
    returns: float = 0.05
    late: float = 0.1
    twice: float = 0.05
    robots: int = 2


@dataclass
class Ledger:
    """What was really done, whatever the API made of it.

    Attributes:
        exposures: An answer of an experiment each: experiment, variant, unit's ids, time, recommendation_id.
        events: All that happened, each once.
    """

    exposures: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """As JSON, which names customers: readable for its owner and group only."""
        text = {"simulated": True, "exposures": self.exposures, "events": self.events}
        write_whole(path, json.dumps(text, default=str), private=True)

    def totals(self, experiment: str, unit: str, attribution_days: int) -> dict[str, dict[str, float]]:
        """Variant → what an experiment's report should have counted, worked out one event at a time.

        Args:
            experiment: Its name.
            unit: "customer" or "session".
            attribution_days: Days after an exposure in which a purchase counts.
        """
        window, key = dt.timedelta(days=attribution_days), f"{unit}_id"
        mine = [each for each in self.exposures if each["experiment"] == experiment]
        owner = {each["recommendation_id"]: each[key] for each in mine}
        variant = {each[key]: each["variant"] for each in mine}
        times: dict[str, list[dt.datetime]] = defaultdict(list)
        for each in mine:
            times[each[key]].append(each["time"])
        found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        counted: set[tuple[str, str, str]] = set()
        for each in mine:
            found[each["variant"]]["exposures"] += 1
        for event in sorted(self.events, key=lambda one: (one["time"], one["type"] == RETURN)):
            answer = event.get("recommendation_id")
            who = str(owner.get(answer) or event.get(key))
            if who not in variant:
                continue
            sums, line = found[variant[who]], (who, str(event.get("order_id")), event["product_id"])
            value = event.get("quantity", 1) * event.get("unit_price", 0)
            if event["type"] == PURCHASE:
                if any(time <= event["time"] <= time + window for time in times[who]):
                    counted.add(line)
                    sums["purchases"] += 1
                    sums["revenue"] += value
            elif event["type"] == RETURN:
                if line in counted:
                    sums["returns"] += 1
                    sums["returned"] += value
            elif answer in owner:
                sums[f"{event['type']}s"] += 1
        return {name: dict(sums) for name, sums in found.items()}


class Simulator:
    """Traffic for one API.

    Args:
        url: Of the API.
        key: With the scopes `read`, `events`, `sales` and `simulate`.
        truth: customer_id, product_id, order_id, time (UTC), quantity, unit_price: what was really bought.
        world: How shoppers behave.
        seed: Of all chance.
    """

    def __init__(self, url: str, key: str, truth: pd.DataFrame, world: World, seed: int = 0) -> None:
        self.url, self.truth, self.world = url.rstrip("/"), truth.sort_values("time"), world
        self.http = requests.Session()
        self.http.headers["X-API-Key"] = key
        self.chance = np.random.default_rng(seed)
        self.ledger = Ledger()
        self.prices = truth.groupby("product_id")["unit_price"].median()  # NaN in a shop without prices
        self._later: dict[dt.date, list[dict[str, Any]]] = defaultdict(list)
        self._run, self._number = f"simulated-{uuid.uuid4().hex[:8]}", 0

    def run(self, days: list[dt.date], zone: dt.tzinfo, say: Callable[[str], None] = lambda _: None) -> Ledger:
        """Play some days, one after the other; returns the ledger.

        What the API refuses as implausible, such as a price far above the catalog's, is said and not in the ledger.

        Raises:
            requests.HTTPError: the API refused something; the message says what.
        """
        self._zone, self._say = zone, say
        local = self.truth["time"].dt.tz_convert(zone).dt.date
        by_day = dict(iter(self.truth.groupby(local)))
        self._about_to_buy: dict[str, set[str]] = {
            str(customer): set(rows["product_id"]) for customer, rows in self.truth.groupby("customer_id")
        }
        for day in days:
            begin = dt.datetime.combine(day, dt.time(), tzinfo=zone).astimezone(dt.timezone.utc)
            batch = [*self._later.pop(day, []), *self._day(by_day.get(day, self.truth.iloc[:0]), begin)]
            self._send(batch, _end_of(day, zone))
            say(f"{day}: {len(batch):,} events sent, {len(self.ledger.exposures):,} answers of experiments so far")
        for day in sorted(self._later):
            self._send(self._later[day], _end_of(day, zone))
            say(f"{day}: {len(self._later[day]):,} events sent that come late, or come back")
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
            elif self.chance.random() < self.world.visits:
                yield from self._visit(customer, begin + dt.timedelta(hours=float(self.chance.uniform(8, 22))))
        for number in range(self.world.robots):
            yield from self._robot(f"robot-{number}", begin + dt.timedelta(hours=12))

    def _visit(self, customer: str, time: dt.datetime) -> Generator[dict[str, Any], None, str]:
        """What happens in a visit; gives back its session."""
        session = f"{self._run}-{customer}-{time:%Y%m%dT%H%M%S}"
        answer = self._ask(customer, session, time)
        about = {"customer_id": customer, "session_id": session, "recommendation_id": answer["recommendation_id"]}
        for item in answer["items"]:
            rank, product, time = item["rank"], item["product_id"], time + dt.timedelta(seconds=1)
            yield from self._event(IMPRESSION, product, time, **about, position=rank)
            wanted = product in self._about_to_buy[customer]
            chance = rank**-self.world.seen * (self.world.keen if wanted else self.world.curious)
            if self.chance.random() >= chance:
                continue
            yield from self._event(CLICK, product, time, **about, position=rank)
            if wanted and self.chance.random() < self.world.basket:
                yield from self._event(CART, product, time, **about, position=rank)
            if not wanted and self.chance.random() < self.world.impulse:
                price = float(self.prices.get(product, item["price"] or math.nan))
                yield from self._purchase(product, time, price, **about, order_id=f"impulse-{session}-{rank}")
        return session

    def _purchase(
        self, product: str, time: dt.datetime, price: float, *, quantity: float = 1.0, **about: Any
    ) -> Iterator[dict[str, Any]]:
        sold: dict[str, Any] = {**about, "quantity": quantity, **({} if math.isnan(price) else {"unit_price": price})}
        yield from self._event(PURCHASE, product, time, **sold)
        if self.chance.random() < self.world.returns:
            back = time + dt.timedelta(days=int(self.chance.integers(1, 6)))
            self._later[back.astimezone(self._zone).date()].extend(
                self._event(RETURN, product, back, **sold, now=False)
            )

    def _robot(self, name: str, time: dt.datetime) -> Iterator[dict[str, Any]]:
        session = f"{self._run}-{name}-{time:%Y%m%d}"
        answer = self._ask(name, session, time)
        who: dict[str, Any] = {"customer_id": name, "session_id": session}
        for item in answer["items"]:
            about = {**who, "recommendation_id": answer["recommendation_id"]}
            yield from self._event(CLICK, item["product_id"], time, **about)
        for product in self.chance.permutation(self.prices.index.to_numpy())[:_ROBOT_CLICKS]:
            yield from self._event(CLICK, str(product), time, **who)

    def _ask(self, customer: str, session: str, time: dt.datetime) -> dict[str, Any]:
        path = f"/v1/customers/{quote(customer, safe='')}/recommendations"
        answer = self._call("GET", path, time, params={"k": 10, "session_id": session})
        for experiment, variant in answer["experiments"].items():
            self.ledger.exposures.append(
                {"experiment": experiment, "variant": variant, "customer_id": customer, "session_id": session,
                 "time": time, "recommendation_id": answer["recommendation_id"]}
            )  # fmt: skip
        return answer

    def _event(
        self, kind: str, product: str, time: dt.datetime, *, now: bool = True, **about: Any
    ) -> Iterator[dict[str, Any]]:
        """An event to be sent today; or, by a browser that is late, later."""
        self._number += 1
        event = {"event_id": f"{self._run}-{self._number}", "type": kind, "product_id": product, "time": time, **about}
        self.ledger.events.append(event)
        times = 2 if self.chance.random() < self.world.twice else 1
        if now and self.chance.random() < self.world.late:
            self._later[time.astimezone(self._zone).date() + dt.timedelta(days=1)].extend([event] * times)
        else:
            yield from [event] * times

    def _send(self, events: list[dict[str, Any]], now: dt.datetime) -> None:
        for first in range(0, len(events), _AT_ONCE):
            batch = [{**each, "time": each["time"].isoformat()} for each in events[first : first + _AT_ONCE]]
            taken = self._call("POST", "/v1/events", now, json={"events": batch})
            if refused := {batch[each["number"]]["event_id"]: each["message"] for each in taken["refused"]}:
                self.ledger.events = [each for each in self.ledger.events if each["event_id"] not in refused]
                self._say(f"{len(refused)} events refused, the first one by {next(iter(refused.values()))}")

    def _call(self, method: str, path: str, now: dt.datetime, **more: Any) -> dict[str, Any]:
        """Ask the API, at a simulated time; again and again while it says that this is too fast."""
        while True:
            answer = self.http.request(
                method, self.url + path, headers={"X-Simulated-Time": now.isoformat()}, timeout=60, **more
            )
            if answer.status_code != _TOO_FAST:
                break
            sleep(float(answer.headers.get("Retry-After", 1)))
        if not answer.ok:
            raise requests.HTTPError(f"{method} {answer.url}: {answer.status_code} {answer.text[:500]}")
        found: dict[str, Any] = answer.json()
        return found


def _end_of(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time.max, tzinfo=zone).astimezone(dt.timezone.utc)


def later_purchases(source: Source, days: list[dt.date], customers: int | None) -> pd.DataFrame:
    """What customers bought on some days that the models don't know, as `Simulator` wants it.

    Args:
        source: Daily files, landed for these days too.
        days: The days; those without a file are left out.
        customers: So many, those with the first ids; None: all.
    """
    rules = CleaningRules(time_zone=source.time_zone, has_price=source.has_price)
    frames = [
        clean_day(read_day(source, day, day).to_pandas(), day, rules).cleaned for day in days if source.files(day)
    ]
    if not frames:
        return pd.DataFrame()
    lines = pd.concat(frames, ignore_index=True)
    lines = lines[lines["event"] == PURCHASE].rename(columns={"event_time": "time"})
    some = sorted(lines["customer_id"].unique())[:customers]
    columns = ["customer_id", "product_id", "order_id", "time", "quantity", "unit_price"]
    return lines.loc[lines["customer_id"].isin(some), columns].reset_index(drop=True)
