"""The whole feedback loop with simulated traffic: simulator → API → events → assets → report. No event is lost."""

import csv
import datetime as dt
import json
import re
import shutil
import subprocess
import sys
import urllib.request
import zoneinfo
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.evaluation.kpis import KPIS
from rec_assets.recsys.events import PURCHASE, RETURN
from rec_assets.recsys.experiments import off_policy
from rec_assets.reports.off_policy_estimate import estimate_clicks
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.settings import Settings
from rec_assets.simulator import ShopperBehavior, Simulator, TrafficLedger
from rec_assets_tests.conftest import SMALL, BootstrappedShop, Shop, free_port, wait_for
from rec_assets_tests.shops import GIFTWARE_DAYS, HEADER

pytestmark = pytest.mark.long

LAST = GIFTWARE_DAYS[1]
SIMULATED_DAYS = [LAST + dt.timedelta(days=age) for age in range(1, 8)]
LANDED_DAYS = [LAST + dt.timedelta(days=age) for age in range(1, 15)]  # returns come back up to five days later
LONDON = zoneinfo.ZoneInfo("Europe/London")

EXPERIMENTS = f"""
experiments:
  - name: chance
    question: Does randomized ranking help?
    start: {SIMULATED_DAYS[0]}
    end: {SIMULATED_DAYS[-1]}
    attribution_days: 2
    variants:
      control: {{share: 0.5}}
      chance: {{share: 0.5, exploration: 0.5}}
  - name: half
    unit: session
    start: {SIMULATED_DAYS[1]}
    end: {SIMULATED_DAYS[-1]}
    variants:
      a: {{share: 0.25}}
      b: {{share: 0.25}}
"""


def later_purchases(shop: Shop) -> pd.DataFrame:
    """Later purchases of known products by known customers."""
    lines = shop.lake.table("cleaned_interactions").pandas(shop.lake.table("cleaned_interactions").days[-30:])
    known = lines[lines["event"] == "purchase"].drop_duplicates(["customer_id", "product_id"])
    rng, rows = np.random.default_rng(1), []
    for number, day in enumerate(SIMULATED_DAYS):
        for order in range(25):
            customer = rng.choice(known["customer_id"].unique())
            at = dt.datetime.combine(day, dt.time(9 + order % 10, order), tzinfo=LONDON)
            history = known[known["customer_id"] == customer]
            for row in history.sample(min(3, len(history)), random_state=order).itertuples():
                rows.append((customer, row.product_id, f"7{number}{order:03}", at, 1.0 + order % 3, row.unit_price))
    purchases = pd.DataFrame(rows, columns=["customer_id", "product_id", "order_id", "time", "quantity", "unit_price"])
    return purchases.assign(time=purchases["time"].dt.tz_convert("UTC")).drop_duplicates(["order_id", "product_id"])


def land(shop: Shop, bought: pd.DataFrame) -> None:
    """Write the daily files of the shop."""
    local = bought["time"].dt.tz_convert(LONDON)
    for day in LANDED_DAYS:
        path = shop.source.parent / "sales" / f"{day:%Y-%m}" / f"invoices_{day:%d%m%Y}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="latin-1", newline="") as file:
            rows = bought[local.dt.date == day].itertuples()
            lines = [
                [row.order_id, row.product_id, "", f"{row.quantity:.0f}",
                 f"{row.time.astimezone(LONDON):%d/%m/%Y %H:%M}", f"{row.unit_price:.2f}", row.customer_id, "EIRE"]
                for row in rows
            ]  # fmt: skip
            csv.writer(file).writerows([HEADER, *lines])


@pytest.fixture(scope="module")
def simulated_shop(
    shop: BootstrappedShop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Shop, TrafficLedger]]:
    """A copy of the shop after a week of simulated traffic, and the files of two weeks."""
    folder = tmp_path_factory.mktemp("simulation")
    shutil.copytree(shop.home, folder / "home")
    shutil.copytree(shop.source.parent, folder / "shop")
    (folder / "experiments.yaml").write_text(EXPERIMENTS, encoding="utf-8")
    port = free_port()
    settings = {
        **SMALL, "REC_EXPERIMENTS": str(folder / "experiments.yaml"), "REC_API__PORT": str(port),
        "REC_GATE_DAYS": "14",  # the gate can't compare newer models yet: a daily update
        "REC_FEEDBACK__MAX_PRODUCTS_PER_DAY": "60",
        "REC_API__REQUESTS_PER_SECOND": "100000", "REC_API__BURST": "100000",
    }  # fmt: skip
    copy = Shop(folder / "home", folder / "shop" / shop.source.name, settings=settings)
    bought = later_purchases(copy)
    online = OnlineState(f"sqlite:///{copy.home}/serving/online.db")
    online.create()
    key = online.add_key("simulator", ["read", "events", "sales", "simulate"], dt.datetime.now(dt.timezone.utc))
    online.close()
    command = [sys.executable, "-m", "rec_assets.cli", "serve"]
    with (folder / "api.log").open("wb") as log:
        server = subprocess.Popen(command, env=copy.environment, stdout=log, stderr=log)
    try:
        wait_for(port, server)
        behavior = ShopperBehavior(
            intended_click=0.9, other_click=0.1, visits=0.4, returns=0.3, late=0.3, twice=0.3, robots=1
        )
        ledger = Simulator(f"http://127.0.0.1:{port}", key, bought, behavior, seed=2).run(SIMULATED_DAYS, LONDON)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert "rec_assets_unexposed_total 0.0" in answer.read().decode()
    finally:
        server.terminate()
        server.wait(30)
    land(copy, bought)
    made = copy.run("bootstrap")
    assert made.returncode == 0, made.stderr[-3000:]
    yield copy, ledger


def totals_of(ledger: TrafficLedger, experiment: str, unit: str, attribution_days: int) -> dict[str, dict[str, float]]:
    """Variant → the totals that the experiment report should have, computed one event at a time.

    Args:
        experiment: Name of the experiment.
        unit: "customer" or "session".
        attribution_days: Days after an exposure in which a purchase counts.
    """
    window, key = dt.timedelta(days=attribution_days), f"{unit}_id"
    exposures = [exposure for exposure in ledger.exposures if exposure["experiment"] == experiment]
    unit_of = {exposure["recommendation_id"]: exposure[key] for exposure in exposures}
    variant = {exposure[key]: exposure["variant"] for exposure in exposures}
    times: dict[str, list[dt.datetime]] = defaultdict(list)
    totals: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for exposure in exposures:
        times[exposure[key]].append(exposure["time"])
        totals[exposure["variant"]]["exposures"] += 1
    counted: set[tuple[str, str, str]] = set()
    for event in sorted(ledger.events, key=lambda event: (event["time"], event["type"] == RETURN)):
        response = event.get("recommendation_id")
        unit_id = str(unit_of.get(response) or event.get(key))
        if unit_id not in variant:
            continue
        sums, line = totals[variant[unit_id]], (unit_id, str(event.get("order_id")), event["product_id"])
        value = event.get("quantity", 1) * event.get("unit_price", 0)
        if event["type"] == PURCHASE:
            if any(time <= event["time"] <= time + window for time in times[unit_id]):
                counted.add(line)
                sums["purchases"] += 1
                sums["revenue"] += value
        elif event["type"] == RETURN:
            if line in counted:
                sums["returns"] += 1
                sums["returned"] += value
        elif response in unit_of:
            sums[f"{event['type']}s"] += 1
    return {name: dict(sums) for name, sums in totals.items()}


def test_events_rejected_by_the_api_are_logged_and_not_in_the_ledger() -> None:
    simulator = Simulator(
        "http://localhost", "key", pd.DataFrame({"time": [], "product_id": [], "unit_price": []}), ShopperBehavior()
    )
    events = [{"event_id": name, "time": dt.datetime(2026, 3, 1)} for name in "aba"]
    simulator.ledger.events, logged = events[:2], list[str]()
    simulator._call = lambda *_, **__: {"rejected": [{"index": 1, "message": "unit_price: too dear"}]}  # type: ignore[method-assign]
    simulator._log = logged.append
    simulator._send(events, dt.datetime(2026, 3, 1))
    assert simulator.ledger.events == events[:1]
    assert logged == ["1 events rejected, the first one because of: unit_price: too dear"]


def test_every_event_and_exposure_lands_once(simulated_shop: tuple[Shop, TrafficLedger]) -> None:
    shop, ledger = simulated_shop
    events = shop.lake.table("raw_feedback_events").pandas(shop.lake.table("raw_feedback_events").days)
    sent = {event["event_id"]: event for event in ledger.events}
    assert len(sent) == len(ledger.events) > 1000
    assert sorted(events["event_id"]) == sorted(sent)
    exposures = shop.lake.table("experiment_exposures").pandas(shop.lake.table("experiment_exposures").days)
    sent_exposures = {(e["recommendation_id"], e["experiment"], e["variant"]) for e in ledger.exposures}
    assert set(map(tuple, exposures[["recommendation_id", "experiment", "variant"]].to_numpy())) == sent_exposures
    assert len(exposures) == len(ledger.exposures) > 100
    assert exposures["simulated"].all()
    randomized = exposures[(exposures["experiment"] == "chance") & (exposures["variant"] == "chance")]
    assert randomized["propensities"].map(min).lt(1).all()


@pytest.mark.parametrize(("name", "unit", "days"), [("chance", "customer", 2), ("half", "session", 7)])
def test_the_report_equals_the_totals_of_the_ledger(
    simulated_shop: tuple[Shop, TrafficLedger], name: str, unit: str, days: int
) -> None:
    shop, ledger = simulated_shop
    totals = totals_of(ledger, name, unit, days)
    newest = max(shop.lake.table("experiment_report").days)
    assert newest == LANDED_DAYS[-1]
    page = Settings(home=shop.home).report(newest, "experiments").read_text(encoding="utf-8")
    section = next(part for part in page.split("<section>") if f"<h2>{name}</h2>" in part)
    assert "Simulated traffic" in section
    columns = ["exposures", "units", "impressions", "clicks", "carts", "purchases", "revenue", "returns", "returned"]
    logged = section[section.index("Logged events") :]
    rows = {
        variant: [float(cell.replace(",", "")) for cell in re.findall("<td>(.*?)</td>", cells)]
        for variant, cells in re.findall('<tr><th scope="row">(.*?)</th>(.*?)</tr>', logged, re.DOTALL)
    }
    shown = pd.DataFrame.from_dict(rows, orient="index", columns=columns).drop(columns="units")
    expected = pd.DataFrame(totals).T.reindex(index=shown.index, columns=shown.columns).fillna(0)
    pd.testing.assert_frame_equal(shown, expected.round(2))
    assert expected["purchases"].sum() > 20 and expected["returns"].sum() > 3


def test_robots_are_excluded_from_the_comparison_and_counted(simulated_shop: tuple[Shop, TrafficLedger]) -> None:
    shop, _ = simulated_shop
    rows = shop.lake.table("experiment_report").pandas([LANDED_DAYS[-1]])
    page = Settings(home=shop.home).report(LANDED_DAYS[-1], "experiments").read_text(encoding="utf-8")
    assert "1 units clicked more than a shopper does" in page
    chance = rows[(rows["experiment"] == "chance") & (rows["metric"] == "ctr")].iloc[0]
    assert chance["control"] < 0.5 and chance["units"] < 60  # a robot clicks every product


def test_simulated_traffic_is_marked(simulated_shop: tuple[Shop, TrafficLedger]) -> None:
    shop, ledger = simulated_shop
    rows = shop.lake.table("experiment_report").pandas([LANDED_DAYS[-1]])
    assert rows["simulated"].all() and set(rows["verdict"]) == {"undecided"}
    assert rows["message"].str.contains("units in the smallest variant").all()
    ledger.write(shop.home / "simulation" / "ledger.json")
    written: dict[str, Any] = json.loads((shop.home / "simulation" / "ledger.json").read_text())
    assert written["simulated"] is True and len(written["events"]) == len(ledger.events)


def test_kpis_include_impressions_and_clicks(simulated_shop: tuple[Shop, TrafficLedger]) -> None:
    shop, _ = simulated_shop
    kpis = shop.lake.table("business_kpis").pandas([LANDED_DAYS[-1]]).set_index("kpi")
    assert kpis.index.tolist() == list(KPIS)
    assert 0 < kpis["value"]["catalog_shown"] < 1
    assert 0 < kpis["value"]["recommended_revenue"] < 1


def test_off_policy_estimates_of_the_logging_model_equal_its_clicks(
    simulated_shop: tuple[Shop, TrafficLedger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the logged propensities can be computed again from the log, the index and the events."""
    shop, ledger = simulated_shop
    monkeypatch.setattr(off_policy, "MIN_EFFECTIVE_RESPONSES", 30.0)
    settings = Settings(home=shop.home, source=str(shop.source))
    release, result = estimate_clicks(settings, "champion", last_days=28, places=3)
    assert release.as_of == LAST
    assert result.effective_responses == pytest.approx(result.responses) and result.support == pytest.approx(1.0)
    chance = {e["recommendation_id"] for e in ledger.exposures if e["variant"] == "chance"}
    clicked = {
        (event["recommendation_id"], event["product_id"]) for event in ledger.events
        if event["type"] == "click" and event.get("position", 99) <= 3 and event["recommendation_id"] in chance
        and not event["customer_id"].startswith("robot")
    }  # fmt: skip
    assert result.logged.value * result.responses == pytest.approx(len(clicked))
    for name, estimate in result.estimates.items():
        assert estimate.value == pytest.approx(result.logged.value, rel=0.1), name
    with pytest.raises(off_policy.InsufficientData, match="the other model"):
        monkeypatch.setattr(off_policy, "MIN_EFFECTIVE_RESPONSES", 1e6)
        estimate_clicks(settings, "champion", last_days=28, places=3)


def test_exposures_are_in_the_landing_zone(simulated_shop: tuple[Shop, TrafficLedger]) -> None:
    shop, _ = simulated_shop
    assert (shop.home / "landing" / "feedback_events" / f"date={SIMULATED_DAYS[0]}" / "exposures.jsonl").exists()
    assert not list(Path(shop.home / "landing" / "feedback_events").glob("date=*/.*"))
