"""Experiments in the API: variants and exposures."""

import datetime as dt
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from rec_assets.recsys.experiments.assignment import assign
from rec_assets.recsys.experiments.experiments_file import read_experiments
from rec_assets.serving.api import create_app
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.runtime import ServingRuntime
from rec_assets.settings import ApiSettings, Settings
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.api_client import wait_until

pytestmark = pytest.mark.integration

TODAY = dt.datetime.now(dt.timezone.utc).date()
DAYS = f"start: {TODAY - dt.timedelta(days=1)}, end: {TODAY + dt.timedelta(days=1)}"
CUSTOMERS = [f"c{number:02}" for number in range(shop.CUSTOMERS)]


def experiment(variants: str, name: str = "test", **more: str) -> str:
    fields = "".join(f", {key}: {value}" for key, value in more.items())
    return f"  - {{name: {name}, {DAYS}{fields}, variants: {{{variants}}}}}\n"


class Client:
    """The API with an experiments file."""

    def __init__(self, home: Path, index: Index, *experiments: str) -> None:
        self.file = home / "experiments.yaml"
        self.write(*experiments)
        settings = Settings(home=home, experiments=self.file, api=ApiSettings(requests_per_second=1e6, burst=1_000_000))
        settings.serving.mkdir(parents=True, exist_ok=True)
        shop.publish(settings.serving, index)
        app = create_app(settings)
        self.folder = ServingFolder(settings.serving)
        self.http = TestClient(app)
        self.http.__enter__()
        self.runtime: ServingRuntime = app.state.runtime
        self.key("test", ["read", "events", "admin"])

    def key(self, name: str, scopes: list[str]) -> None:
        self.http.headers["X-API-Key"] = self.runtime.online.add_key(name, scopes, _now())

    def write(self, *experiments: str) -> None:
        self.file.write_text("experiments:\n" + "".join(experiments), encoding="utf-8")

    def ask(self, customer: str, **query: Any) -> dict[str, Any]:
        response = self.http.get(f"/v1/customers/{customer}/recommendations", params=query)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def products(self, customer: str, **query: Any) -> list[str]:
        return [item["product_id"] for item in self.ask(customer, **query)["items"]]

    def exposures(self) -> list[dict[str, Any]]:
        span = (_now() - dt.timedelta(days=9000), _now() + dt.timedelta(days=9000))
        return [dict(row) for row in self.runtime.online.rows_between("exposures", *span)]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


@pytest.fixture
def start(tmp_path: Path, index: Index) -> Iterator[Callable[..., Client]]:
    running: list[Client] = []

    def run(*experiments: str) -> Client:
        running.append(Client(tmp_path, index, *experiments))
        return running[-1]

    yield run
    for client in running:
        client.http.__exit__(None, None, None)


def test_each_customer_gets_the_assigned_variant_and_the_exposure_is_recorded(
    start: Callable[..., Client],
) -> None:
    client = start(experiment("a: {share: 0.4}, b: {share: 0.4, mode: discover}"))
    (spec,) = read_experiments(client.file).experiments
    responses = {customer: client.ask(customer, k=5) for customer in CUSTOMERS}
    assigned = {customer: assign(spec, customer) for customer in CUSTOMERS}
    assert set(assigned.values()) == {"a", "b", None}
    for customer, response in responses.items():
        assert response["experiments"] == ({"test": assigned[customer]} if assigned[customer] else {})
    rows = {row["recommendation_id"]: row for row in client.exposures()}
    treated = {each["recommendation_id"]: each for each in responses.values() if each["experiments"]}
    assert rows.keys() == treated.keys()
    for recommendation, response in treated.items():
        row = rows[recommendation]
        assert row["variants"] == response["experiments"] == {"test": assigned[row["customer_id"]]}
        assert row["mode"] == ("discover" if row["variants"]["test"] == "b" else "all")
        assert [item["product_id"] for item in row["items"]] == [item["product_id"] for item in response["items"]]
        assert {item["propensity"] for item in row["items"]} == {1.0}
        assert not row["simulated"]
    assert client.ask(CUSTOMERS[0], k=5)["experiments"] == responses[CUSTOMERS[0]]["experiments"]


def test_visitors_are_assigned_by_session(start: Callable[..., Client]) -> None:
    client = start(experiment("a: {share: 0.5}, b: {share: 0.5, mode: discover}", unit="session"))
    (spec,) = read_experiments(client.file).experiments
    for session in (f"s{number}" for number in range(12)):
        body = {"session_id": session, "k": 5, "events": [{"type": "click", "product_id": "p03"}]}
        response = client.http.post("/v1/recommendations", json=body).json()
        assert response["experiments"] == {"test": assign(spec, session)}
    rows = client.exposures()
    assert len(rows) == 12 and {row["variants"]["test"] for row in rows} == {"a", "b"}
    assert {row["customer_id"] for row in rows} == {None}
    assert all(row["filtered"] for row in rows)  # events in the request are not stored


def test_holdouts_see_best_sellers_or_nothing(start: Callable[..., Client]) -> None:
    client = start(
        experiment("a: {share: 0.34}, popular: {share: 0.33, show: popular}, no: {share: 0.33, show: nothing}")
    )
    stranger = [item["product_id"] for item in client.http.post("/v1/recommendations", json={"k": 5}).json()["items"]]
    found = {}
    for customer in CUSTOMERS:
        response = client.ask(customer, k=5)
        found[response["experiments"]["test"]] = response
    assert [item["product_id"] for item in found["popular"]["items"]] == stranger
    assert (found["no"]["items"], found["no"]["answered_by"]) == ([], "holdout")
    assert found["a"]["answered_by"] == "customer"


def test_randomized_rankings_record_propensities(start: Callable[..., Client]) -> None:
    client = start(experiment("a: {share: 0.5, exploration: 0.3}, b: {share: 0.5, exploration: 0.3}"))
    for _ in range(20):
        client.ask(CUSTOMERS[0], k=5)
    rows = client.exposures()
    firsts = [row["items"][0] for row in rows]
    assert len({each["product_id"] for each in firsts}) > 1
    assert all(0 < item["propensity"] <= 1 for row in rows for item in row["items"])
    by_product = {(each["product_id"], round(each["propensity"], 9)) for each in firsts}
    assert len(by_product) == len({product for product, _ in by_product})  # the same rank has the same propensity
    client.ask(CUSTOMERS[0], k=5, diversity=0.5)
    (varied,) = [
        row for row in client.exposures() if row["recommendation_id"] not in {r["recommendation_id"] for r in rows}
    ]
    assert {item["propensity"] for item in varied["items"]} == {None}


def test_an_experiment_runs_once_the_index_of_its_model_is_published(
    start: Callable[..., Client], index: Index
) -> None:
    client = start(experiment("a: {share: 0.000001}, b: {share: 0.999999, model: challenger}"))
    before = client.ask(CUSTOMERS[0])
    assert (before["experiments"], before["model_version"]) == ({}, 1)
    assert "rec_assets_unexposed_total 1.0" in client.http.get("/metrics").text
    other = client.folder.add(2, shop.AS_OF, index.save)
    current = client.folder.current()
    assert current is not None
    client.folder.make_current(current, {"challenger": other})
    wait_until(lambda: "challenger" in client.runtime.indexes.experiment_engines)
    assert set(client.runtime.indexes.comparable(client.runtime.engine)) == {"challenger"}  # type: ignore[arg-type]
    compared = client.ask(CUSTOMERS[0])
    assert (compared["experiments"], compared["model_version"]) == ({"test": "b"}, 2)
    assert [row["model_version"] for row in client.exposures()] == [2]
    client.folder.make_current(current)  # by default, the indexes for experiments stay
    assert client.folder.pointers().experiment_indexes == {"challenger": other}


def test_interleaving_mixes_two_rankings_and_records_teams(start: Callable[..., Client]) -> None:
    client = start(experiment("a: {share: 0.5}, b: {share: 0.5, mode: discover}", design="interleave"))
    customer = CUSTOMERS[1]
    shown = client.products(customer, k=10)
    (row,) = client.exposures()
    teams = {item["product_id"]: item["team"] for item in row["items"]}
    assert list(teams) == shown and len(shown) == 10
    assert abs(list(teams.values()).count("a") - 5) <= 1
    assert {item["propensity"] for item in row["items"]} == {0.5, 1.0}
    client.products(customer, k=10, exploration=0.5)
    randomized = next(each for each in client.exposures() if each["exploration"])
    assert {item["propensity"] for item in randomized["items"]} == {None}
    client.write()
    wait_until(lambda: client.ask(customer)["experiments"] == {})
    alone = {"a": client.products(customer, k=20), "b": client.products(customer, k=20, mode="discover")}
    for product, team in teams.items():
        assert product in alone[team]
    for team in "ab":  # each team keeps its order
        own = [alone[team].index(product) for product, of in teams.items() if of == team]
        assert own == sorted(own)


def test_a_changed_file_takes_effect_and_an_invalid_one_is_ignored(start: Callable[..., Client]) -> None:
    client = start()
    assert client.ask(CUSTOMERS[0])["experiments"] == {}
    client.write(experiment("a: {share: 0.5}, b: {share: 0.5}"))
    wait_until(lambda: client.ask(CUSTOMERS[0])["experiments"] != {})
    client.write(experiment("a: {share: 0.9}, b: {share: 0.5}"))
    os.utime(client.file, (1, 1))
    wait_until(lambda: client.ask(CUSTOMERS[0])["experiments"] != {})
    client.file.unlink()
    assert client.ask(CUSTOMERS[0])["experiments"] != {}


def test_a_worker_that_starts_with_an_invalid_file_runs_no_experiments(tmp_path: Path, index: Index) -> None:
    client = Client(tmp_path, index, experiment("a: {share: 0.9}, b: {share: 0.5}"))
    ready = client.http.get("/health/ready")
    assert ready.status_code == 200 and "the shares sum to 1.4" in ready.json()["warnings"]["experiments"]
    response = client.http.post("/v1/recommendations", json={"customer_id": "c00"}).json()
    assert response["items"] and response["experiments"] == {}
    client.http.__exit__(None, None, None)


def test_without_a_recorded_exposure_the_response_is_in_no_experiment(
    start: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start(experiment("a: {share: 0.000001}, b: {share: 0.999999, show: nothing}"))

    def fail(_: object) -> None:
        raise OperationalError("insert", {}, Exception("disk full"))

    monkeypatch.setattr(client.runtime.online, "record_exposure", fail)
    response = client.ask(CUSTOMERS[0])
    assert response["experiments"] == {} and len(response["items"]) == 10


def test_a_forgotten_customer_has_no_experiments_and_no_exposures(start: Callable[..., Client]) -> None:
    client = start(experiment("a: {share: 0.5}, b: {share: 0.5}"))
    client.ask(CUSTOMERS[0], session_id="s1")
    client.ask(CUSTOMERS[1])
    client.http.post("/v1/events", json={"events": [
        {"event_id": "e1", "type": "click", "product_id": "p1", "customer_id": CUSTOMERS[0], "session_id": "s1"}
    ]})  # fmt: skip
    assert client.http.delete(f"/v1/customers/{CUSTOMERS[0]}").status_code == 200
    assert [row["customer_id"] for row in client.exposures()] == [CUSTOMERS[1]]
    assert client.ask(CUSTOMERS[0])["experiments"] == {}


def test_a_simulated_time_needs_the_scope_simulate(start: Callable[..., Client]) -> None:
    client = start(experiment("a: {share: 0.5}, b: {share: 0.5}"))
    then = {"X-Simulated-Time": f"{TODAY - dt.timedelta(days=1)}T12:00:00+00:00"}
    url = f"/v1/customers/{CUSTOMERS[0]}/recommendations"
    rejected = client.http.get(url, headers=then)
    assert (rejected.status_code, rejected.json()["error"]) == (403, "missing_scope")
    client.key("simulator", ["read", "events", "simulate"])
    assert client.http.get(url, headers=then).json()["experiments"]
    (row,) = client.exposures()
    assert row["simulated"] and dt.datetime.fromtimestamp(row["time"], dt.timezone.utc).date() < TODAY
    long_ago = {"X-Simulated-Time": "2018-01-02T12:00:00+00:00"}
    assert client.http.get(url, headers=long_ago).json()["experiments"] == {}  # before the experiment starts
    tomorrow = f"{TODAY + dt.timedelta(days=2)}T00:00:00+00:00"
    for invalid in ("yesterday", "2018-01-02T12:00:00", "0001-01-01T00:00:00+00:00", tomorrow):
        assert client.http.get(url, headers={"X-Simulated-Time": invalid}).status_code == 422
    with pytest.raises(ValueError, match="public key can't have the scope 'simulate'"):
        client.runtime.online.add_key("page", ["simulate"], _now(), is_public=True)
