"""The whole loop on simulated traffic: simulator → API → events → assets → report, and not one event is lost."""

import csv
import datetime as dt
import json
import re
import shutil
import subprocess
import sys
import urllib.request
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rec_assets.assets.experiments import report_path
from rec_assets.automation.off_policy import estimate
from rec_assets.recsys.evaluation.kpis import KPIS
from rec_assets.recsys.experiments import off_policy
from rec_assets.serving.online import OnlineState
from rec_assets.settings import Settings
from rec_assets.simulator import Ledger, Simulator, World
from rec_assets_tests.conftest import SMALL, BootstrappedShop, Shop, free_port, wait_for
from rec_assets_tests.shops import GIFTWARE_DAYS, HEADER

pytestmark = pytest.mark.slow

LAST = GIFTWARE_DAYS[1]
PLAYED = [LAST + dt.timedelta(days=age) for age in range(1, 8)]
LANDED = [LAST + dt.timedelta(days=age) for age in range(1, 15)]  # returns come back up to five days later
LONDON = zoneinfo.ZoneInfo("Europe/London")

EXPERIMENTS = f"""
experiments:
  - name: chance
    question: Does a little chance help?
    start: {PLAYED[0]}
    end: {PLAYED[-1]}
    attribution_days: 2
    variants:
      control: {{share: 0.5}}
      chance: {{share: 0.5, exploration: 0.5}}
  - name: half
    unit: session
    start: {PLAYED[1]}
    end: {PLAYED[-1]}
    variants:
      a: {{share: 0.25}}
      b: {{share: 0.25}}
"""


def truth(shop: Shop) -> pd.DataFrame:
    """What the shop's customers go on to buy: known customers, known products."""
    lines = shop.lake.pandas("cleaned_interactions", shop.lake.days("cleaned_interactions")[-30:])
    known = lines[lines["event"] == "purchase"].drop_duplicates(["customer_id", "product_id"])
    rng, rows = np.random.default_rng(1), []
    for number, day in enumerate(PLAYED):
        for order in range(25):
            customer = rng.choice(known["customer_id"].unique())
            at = dt.datetime.combine(day, dt.time(9 + order % 10, order), tzinfo=LONDON)
            taste = known[known["customer_id"] == customer]
            for row in taste.sample(min(3, len(taste)), random_state=order).itertuples():
                rows.append((customer, row.product_id, f"7{number}{order:03}", at, 1.0 + order % 3, row.unit_price))
    found = pd.DataFrame(rows, columns=["customer_id", "product_id", "order_id", "time", "quantity", "unit_price"])
    return found.assign(time=found["time"].dt.tz_convert("UTC")).drop_duplicates(["order_id", "product_id"])


def land(shop: Shop, bought: pd.DataFrame) -> None:
    """The days' files, as the shop writes them."""
    local = bought["time"].dt.tz_convert(LONDON)
    for day in LANDED:
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
def played(shop: BootstrappedShop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, Ledger]]:
    """A copy of the shop after a week of simulated traffic, and two weeks' files."""
    folder = tmp_path_factory.mktemp("simulation")
    shutil.copytree(shop.home, folder / "home")
    shutil.copytree(shop.source.parent, folder / "shop")
    (folder / "experiments.yaml").write_text(EXPERIMENTS, encoding="utf-8")
    port = free_port()
    settings = {
        **SMALL, "REC_EXPERIMENTS": str(folder / "experiments.yaml"), "REC_API__PORT": str(port),
        "REC_GATE_DAYS": "14",  # no newer models can be judged yet: a refresh
        "REC_FEEDBACK__MOST_PRODUCTS": "60", "REC_API__REQUESTS_PER_SECOND": "100000", "REC_API__BURST": "100000",
    }  # fmt: skip
    copy = Shop(folder / "home", folder / "shop" / shop.source.name, settings=settings)
    bought = truth(copy)
    online = OnlineState(f"sqlite:///{copy.home}/serving/online.db")
    online.create()
    key = online.add_key("simulator", ["read", "events", "sales", "simulate"], dt.datetime.now(dt.timezone.utc))
    online.close()
    command = [sys.executable, "-m", "rec_assets.cli", "serve"]
    with (folder / "api.log").open("wb") as log:
        server = subprocess.Popen(command, env=copy.environment, stdout=log, stderr=log)
    try:
        wait_for(port, server)
        world = World(keen=0.9, curious=0.1, visits=0.4, returns=0.3, late=0.3, twice=0.3, robots=1)
        ledger = Simulator(f"http://127.0.0.1:{port}", key, bought, world, seed=2).run(PLAYED, LONDON)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert "rec_assets_unexposed_total 0.0" in answer.read().decode()
    finally:
        server.terminate()
        server.wait(30)
    land(copy, bought)
    made = copy.run("bootstrap")
    assert made.returncode == 0, made.stderr[-3000:]
    yield copy, ledger


def test_what_the_api_refuses_is_said_and_is_not_in_the_ledger() -> None:
    simulator = Simulator(
        "http://localhost", "key", pd.DataFrame({"time": [], "product_id": [], "unit_price": []}), World()
    )
    events = [{"event_id": name, "time": dt.datetime(2026, 3, 1)} for name in "aba"]
    simulator.ledger.events, said = events[:2], list[str]()
    simulator._call = lambda *_, **__: {"refused": [{"number": 1, "message": "unit_price: too dear"}]}  # type: ignore[method-assign]
    simulator._say = said.append
    simulator._send(events, dt.datetime(2026, 3, 1))
    assert simulator.ledger.events == events[:1] and said == ["1 events refused, the first one by unit_price: too dear"]


def test_every_event_and_exposure_lands_once(played: tuple[Shop, Ledger]) -> None:
    shop, ledger = played
    events = shop.lake.pandas("raw_feedback_events", shop.lake.days("raw_feedback_events"))
    sent = {each["event_id"]: each for each in ledger.events}
    assert len(sent) == len(ledger.events) > 1000
    assert sorted(events["event_id"]) == sorted(sent)
    exposures = shop.lake.pandas("experiment_exposures", shop.lake.days("experiment_exposures"))
    told = {(each["recommendation_id"], each["experiment"], each["variant"]) for each in ledger.exposures}
    assert set(map(tuple, exposures[["recommendation_id", "experiment", "variant"]].to_numpy())) == told
    assert len(exposures) == len(ledger.exposures) > 100
    assert exposures["simulated"].all()
    by_chance = exposures[(exposures["experiment"] == "chance") & (exposures["variant"] == "chance")]
    assert by_chance["propensities"].map(min).lt(1).all()


@pytest.mark.parametrize(("name", "unit", "days"), [("chance", "customer", 2), ("half", "session", 7)])
def test_the_report_counts_what_the_simulator_did_to_the_last_penny(
    played: tuple[Shop, Ledger], name: str, unit: str, days: int
) -> None:
    shop, ledger = played
    totals = ledger.totals(name, unit, days)
    newest = max(shop.lake.days("experiment_report"))
    assert newest == LANDED[-1]
    page = report_path(Settings(home=shop.home), newest).read_text(encoding="utf-8")
    section = next(part for part in page.split("<section>") if f"<h2>{name}</h2>" in part)
    assert "Simulated traffic" in section
    columns = ["exposures", "units", "impressions", "clicks", "carts", "purchases", "revenue", "returns", "returned"]
    logged = section[section.index("What was logged") :]
    rows = {
        variant: [float(cell.replace(",", "")) for cell in re.findall("<td>(.*?)</td>", cells)]
        for variant, cells in re.findall('<tr><th scope="row">(.*?)</th>(.*?)</tr>', logged, re.DOTALL)
    }
    shown = pd.DataFrame.from_dict(rows, orient="index", columns=columns).drop(columns="units")
    expected = pd.DataFrame(totals).T.reindex(index=shown.index, columns=shown.columns).fillna(0)
    pd.testing.assert_frame_equal(shown, expected.round(2))
    assert expected["purchases"].sum() > 20 and expected["returns"].sum() > 3


def test_robots_are_left_out_of_the_comparison_and_counted(played: tuple[Shop, Ledger]) -> None:
    shop, _ = played
    rows = shop.lake.pandas("experiment_report", [LANDED[-1]])
    page = report_path(Settings(home=shop.home), LANDED[-1]).read_text(encoding="utf-8")
    assert "1 looked at more than a shopper does" in page
    chance = rows[(rows["experiment"] == "chance") & (rows["metric"] == "ctr")].iloc[0]
    assert chance["control"] < 0.5 and chance["units"] < 60  # a robot clicks all it sees


def test_what_was_simulated_is_said_to_be(played: tuple[Shop, Ledger]) -> None:
    shop, ledger = played
    rows = shop.lake.pandas("experiment_report", [LANDED[-1]])
    assert rows["simulated"].all() and set(rows["verdict"]) == {"undecided"}
    assert rows["says"].str.contains("units in the smallest variant").all()
    ledger.write(shop.home / "simulation" / "ledger.json")
    written: dict[str, Any] = json.loads((shop.home / "simulation" / "ledger.json").read_text())
    assert written["simulated"] is True and len(written["events"]) == len(ledger.events)


def test_key_figures_know_what_was_shown_and_clicked(played: tuple[Shop, Ledger]) -> None:
    shop, _ = played
    figures = shop.lake.pandas("business_kpis", [LANDED[-1]]).set_index("kpi")
    assert figures.index.tolist() == list(KPIS)
    assert 0 < figures["value"]["catalog_shown"] < 1
    assert 0 < figures["value"]["recommended_revenue"] < 1


def test_a_model_beside_itself_is_estimated_to_get_what_it_got(
    played: tuple[Shop, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the chances that the API logged are those that come out of the log, the index and the events again."""
    shop, ledger = played
    monkeypatch.setattr(off_policy, "LEAST_EFFECTIVE", 30.0)
    settings = Settings(home=shop.home, source=str(shop.source))
    release, found = estimate(settings, "champion", last_days=28, places=3)
    assert release.as_of == LAST
    assert found.effective == pytest.approx(found.answers) and found.support == pytest.approx(1.0)
    chance = {each["recommendation_id"] for each in ledger.exposures if each["variant"] == "chance"}
    clicked = {
        (each["recommendation_id"], each["product_id"]) for each in ledger.events
        if each["type"] == "click" and each.get("position", 99) <= 3 and each["recommendation_id"] in chance
        and not each["customer_id"].startswith("robot")
    }  # fmt: skip
    assert found.champion.value * found.answers == pytest.approx(len(clicked))
    for name, each in found.estimates.items():
        assert each.value == pytest.approx(found.champion.value, rel=0.1), name
    with pytest.raises(off_policy.InsufficientData, match="the other model"):
        monkeypatch.setattr(off_policy, "LEAST_EFFECTIVE", 1e6)
        estimate(settings, "champion", last_days=28, places=3)


def test_a_customer_s_path_is_on_disk(played: tuple[Shop, Ledger]) -> None:
    shop, _ = played
    assert (shop.home / "landing" / "feedback_events" / f"date={PLAYED[0]}" / "exposures.jsonl").exists()
    assert not list(Path(shop.home / "landing" / "feedback_events").glob("date=*/.*"))
