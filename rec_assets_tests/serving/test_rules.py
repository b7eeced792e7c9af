"""Merchandising rules in the API, compared with the batch."""

import datetime as dt
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from rec_assets.recsys.ranking.lists import ALL, DISCOVER, LISTS, build_lists
from rec_assets.recsys.retrieval.candidates import find_candidates
from rec_assets.recsys.rules.compiled import compile_rules
from rec_assets.recsys.rules.rules_file import RuleSets, read_rules
from rec_assets.serving.api import create_app
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.index_files.stored import StoredList
from rec_assets.serving.recommendation import BUY_AGAIN, RecommendationRequest
from rec_assets.serving.recommender import Recommender
from rec_assets.serving.responder import Rank, Responder
from rec_assets.settings import ApiSettings, Settings
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.api_client import wait_until
from rec_assets_tests.serving.test_responder import bought_by

pytestmark = pytest.mark.integration

ANN = "c00"
PIN = "{name: launch, kind: pin, product_id: p58, rank: 1}"
TAIL = "{name: tail, kind: boost, products: {slow_movers: 0.4}, slots: 6, max_dcg_loss: 0.5}"
CAP = "{name: mixed, kind: cap, per: category, max_items: 7}"
NO_BATH = "{name: recalled, kind: exclude, products: {categories: [bath]}}"
DEAR = "{name: dear, kind: weight, strength: 0.2}"
ALL_OF_THEM = f"{PIN}, {TAIL}, {CAP}, {NO_BATH}, {DEAR}, {{name: with, kind: complements_first, days: 30, slots: 2}}"


def write_rules(folder: Path, text: str = ALL_OF_THEM) -> RuleSets:
    path = folder / "rules.yaml"
    path.write_text(f"default: house\nrule_sets: {{house: [{text}], other: [{NO_BATH}]}}\n", encoding="utf-8")
    return read_rules(path)


def with_lists(index: Index, rules: RuleSets) -> Index:
    """The index with lists that the batch would build with these rules."""
    compiled, snapshot = compile_rules(rules, rules.default, index.snapshot), index.snapshot
    titles = dict(zip(snapshot.product_ids, snapshot.titles, strict=True))
    categories = dict(zip(snapshot.product_ids, snapshot.categories[snapshot.category], strict=True))
    found = find_candidates(shop.histories(), snapshot, shop.RECIPE)
    if compiled.frequency_cap_column:
        found[compiled.frequency_cap_column] = False  # there are no impressions yet
    made = build_lists(found, index.ranker, titles, categories, shop.RECIPE.list_size, compiled)
    stored = {
        name: StoredList.from_scores(pa.Table.from_pandas(made[made["list"] == name], preserve_index=False), snapshot)
        for name in LISTS
    }
    return replace(index, lists=stored, metadata={**index.metadata, "rules_version": compiled.version})


def ask(one: Responder, rank: Rank | None = None, **request: object) -> list[tuple[str, str, str, str | None]]:
    available, rng = one.available(frozenset()), np.random.default_rng(1)
    response = one.build_response(RecommendationRequest(**request), available, rng, rank)  # type: ignore[arg-type]
    return [(each.product_id, each.source, each.reason, each.rule) for each in response.items]


def test_batch_and_api_apply_the_same_rules(index: Index, tmp_path: Path) -> None:
    rules = write_rules(tmp_path)
    made = with_lists(index, rules)
    stored = Responder(Recommender(made), rule_sets=rules)
    ranking = Responder(Recommender(shop.without_lists(index)), rule_sets=rules)
    seen = set()
    for customer, mode in itertools.product(index.histories.customers, (ALL, DISCOVER)):
        responses = [
            ask(one, customer_id=customer.decode(), mode=mode, rules="house", k=12) for one in (stored, ranking)
        ]
        assert responses[0] == responses[1]
        assert responses[0] != ask(ranking, customer_id=customer.decode(), mode=mode, k=12)
        seen |= {rule for _, _, _, rule in responses[0]}
        is_pinned = mode == ALL or "p58" not in bought_by(customer.decode())
        assert (responses[0][0][0] == "p58" and responses[0][0][3] == "pinned by rule launch") == is_pinned
        assert {int(product[1:]) % 3 for product, *_ in responses[0]} == {0, 1}  # no bath
    assert {
        None,
        "pinned by rule launch",
        "boosted by rule tail",
        "raised by rule dear",
        "put first by rule with",
    } == seen


def test_a_stored_list_is_used_only_with_the_rules_it_was_made_with(index: Index, tmp_path: Path) -> None:
    rules = write_rules(tmp_path, PIN)
    made = with_lists(index, rules)
    ranked: list[str] = []

    def rank(customer: str, signals: Any) -> Any:
        ranked.append(customer)
        return recommender.rank(customer, signals)

    recommender = Recommender(made)
    one = Responder(recommender, rules)
    first = ask(one, rank, customer_id=ANN, rules="house")[1][0]
    assert ranked == []
    for request in ({"rules": "none"}, {"rules": "other"}, {"rules": "house", "exclude": frozenset({first})},
                 {"rules": "house", "mode": BUY_AGAIN}):  # fmt: skip
        ask(one, rank, customer_id=ANN, **request)
    assert len(ranked) == 4
    changed = Responder(recommender, write_rules(tmp_path, TAIL))
    ask(changed, rank, customer_id=ANN, rules="house")
    assert len(ranked) == 5


def test_rules_apply_to_unknown_customers_and_after_filters(index: Index, tmp_path: Path) -> None:
    one = Responder(Recommender(index), rule_sets=write_rules(tmp_path))
    unknown = ask(one, rules="house")
    assert unknown[0] == ("p58", "best_sellers", "popular in china", "pinned by rule launch")
    assert [product for product, *_ in ask(one)][:3] == ["p00", "p01", "p02"]
    tea = ask(one, customer_id=ANN, rules="house", categories=frozenset({"tea"}))
    assert {int(product[1:]) % 3 for product, *_ in tea} == {0}  # the pinned product is china
    assert "p58" not in [product for product, *_ in ask(one, customer_id=ANN, rules="house", mode=BUY_AGAIN)]


class Client:
    """The API with a rules file."""

    def __init__(self, home: Path, index: Index, text: str, experiments: str | None = None) -> None:
        self.folder = home
        rules = write_rules(home, text)
        if experiments is not None:
            (home / "experiments.yaml").write_text(experiments, encoding="utf-8")
        settings = Settings(
            home=home, rules=home / "rules.yaml", experiments=home / "experiments.yaml" if experiments else None,
            api=ApiSettings(requests_per_second=1e6, burst=1_000_000),
        )  # fmt: skip
        self.settings = settings
        settings.serving.mkdir(parents=True, exist_ok=True)
        shop.publish(settings.serving, with_lists(index, rules))
        app = create_app(settings)
        self.http = TestClient(app)
        self.http.__enter__()
        self.runtime = app.state.runtime
        now = dt.datetime.now(dt.timezone.utc)
        self.http.headers["X-API-Key"] = self.runtime.online.add_key("test", ["read", "events", "admin"], now)

    def items(self, path: str = f"/v1/customers/{ANN}/recommendations", **request: Any) -> list[dict[str, Any]]:
        response = self.http.get(path, params=request)
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["items"]
        return found

    def products(self, *path: str, **request: Any) -> list[str]:
        return [item["product_id"] for item in self.items(*path, **request)]

    def send(self, *events: dict[str, Any]) -> None:
        body = {"events": [{"event_id": os.urandom(8).hex(), "customer_id": ANN, **each} for each in events]}
        assert self.http.post("/v1/events", json=body).status_code == 200


@pytest.fixture
def start(tmp_path: Path, index: Index) -> Iterator[Callable[..., Client]]:
    running: list[Client] = []

    def run(text: str, experiments: str | None = None) -> Client:
        running.append(Client(tmp_path, index, text, experiments))
        return running[-1]

    yield run
    for client in running:
        client.http.__exit__(None, None, None)


def test_an_item_names_the_rule_that_placed_it(start: Callable[..., Client]) -> None:
    client = start(f"{PIN}, {NO_BATH}")
    items = client.items()
    assert items[0]["product_id"] == "p58" and items[0]["rule"] == "pinned by rule launch"
    assert {item["rule"] for item in items[1:]} == {None}
    assert {item["category"] for item in items} <= {"tea", "china"}


def test_excluded_products_are_in_no_response(start: Callable[..., Client]) -> None:
    client = start("{name: recalled, kind: exclude, products: {ids: [p05, p10, p00]}}")
    for path in ("/v1/products/p15/similar", "/v1/products/p15/complements", "/v1/trending",
                 f"/v1/customers/{ANN}/recommendations", "/v1/customers/nobody/recommendations"):  # fmt: skip
        products = client.products(path, k=100)
        assert products and not {"p05", "p10", "p00"} & set(products), path


def test_an_unavailable_product_is_replaced_under_the_same_rules(start: Callable[..., Client]) -> None:
    client = start(f"{PIN}, {TAIL}")
    before = client.products()
    client.http.put(f"/v1/products/{before[1]}/availability", json={"available": False})
    after = client.products()
    assert after[0] == "p58" and before[1] not in after and len(after) == 10


def test_changed_rules_take_effect_and_invalid_ones_are_ignored(start: Callable[..., Client]) -> None:
    client = start(PIN)
    assert client.products()[0] == "p58"
    write_rules(client.folder, PIN.replace("p58", "p55"))
    wait_until(lambda: client.products()[0] == "p55")
    (client.folder / "rules.yaml").write_text("default: gone\n", encoding="utf-8")
    assert client.products()[0] == "p55"
    (client.folder / "gone.csv").write_text("product_id\np55\n", encoding="utf-8")
    write_rules(client.folder, "{name: recalled, kind: exclude, products: {file: gone.csv}}")
    wait_until(lambda: client.products()[0] not in ("p55", "p58"))
    first = client.products()[0]
    (client.folder / "gone.csv").write_text(f"product_id\n{first}\n", encoding="utf-8")
    wait_until(lambda: client.products()[0] != first)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
BROKEN = {
    "tag": "default: !!int x\n",
    "laughs": LAUGHS,
    "ring": "rule_sets: &a [*a]\n",
    "deep": "[" * 100_000,
    "twice": "default: none\ndefault: none\n",
}
_IN_ANY_TEST_RUN = ("tag", "laughs")  # test_plain_yaml.py reads files with the other faults


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(text, id=fault, marks=[] if fault in _IN_ANY_TEST_RUN else [pytest.mark.slow])
        for fault, text in BROKEN.items()
    ],
)
def test_invalid_files_do_not_stop_new_indexes_and_cause_warnings(
    start: Callable[..., Client], index: Index, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    client = start(PIN, "experiments: []\n")
    for name in ("rules.yaml", "experiments.yaml"):
        (client.folder / name).write_text(broken, encoding="utf-8")
    wait_until(lambda: len(client.http.get("/health/ready").json()["warnings"]) == 2)
    for version in (2, 1):  # a new model, and back
        shop.publish(client.runtime.indexes.folder.root, index, version)
        wait_until(lambda version=version: client.http.get("/health/ready").json()["model_version"] == version)
        assert client.items()[0]["rule"] == "pinned by rule launch"
    ready = client.http.get("/health/ready")
    assert ready.status_code == 200 and ready.json()["status"] == "ok"
    for name in ("rules", "experiments"):
        path = str(client.folder / f"{name}.yaml")
        assert ready.json()["warnings"][name].startswith(f"{path}: ")
        (line,) = [line for line in caplog.text.splitlines() if path in line and "again" not in line]
        assert re.search(r"line \d+, column \d+: ", line)
    assert "Traceback" not in caplog.text
    write_rules(client.folder, NO_BATH)
    (client.folder / "experiments.yaml").write_text("experiments: []\n", encoding="utf-8")
    wait_until(lambda: client.http.get("/health/ready").json()["warnings"] == {})
    assert {item["rule"] for item in client.items()} == {None}


def test_a_worker_that_starts_with_invalid_rules_is_not_ready(start: Callable[..., Client]) -> None:
    client = start(PIN)
    (client.folder / "rules.yaml").write_text("default: none\ndefault: none\n", encoding="utf-8")
    with TestClient(create_app(client.settings), headers=client.http.headers) as started:
        ready = started.get("/health/ready")
        assert (ready.status_code, list(ready.json()["missing"])) == (503, ["rules"])
        assert "line 2, column 1" in ready.json()["missing"]["rules"]
        response = started.post("/v1/recommendations", json={"customer_id": ANN})
        assert (response.status_code, response.json()["error"]) == (503, "no_rules")
        write_rules(client.folder, PIN)
        wait_until(lambda: started.get("/health/ready").status_code == 200)
        items = started.post("/v1/recommendations", json={"customer_id": ANN}).json()["items"]
        assert items[0]["rule"] == "pinned by rule launch"


def test_an_error_while_refreshing_rules_does_not_stop_new_indexes(
    start: Callable[..., Client], index: Index, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start(PIN)
    monkeypatch.setattr(client.runtime.rules, "refresh", lambda: {}["rules"])
    for version in (2, 1):
        shop.publish(client.runtime.indexes.folder.root, index, version)
        client.runtime.refresh()
        assert client.runtime.engine.published.version == version
    assert client.runtime.warnings() == {"rules": "refreshing fails: KeyError: 'rules'"}
    assert caplog.text.count("refreshing rules failed") == caplog.text.count("Traceback") == 1
    monkeypatch.undo()
    client.runtime.refresh()
    assert client.runtime.warnings() == {}


def test_a_frequency_cap_applies_until_the_shopper_interacts(start: Callable[..., Client]) -> None:
    client = start("{name: enough, kind: frequency_cap, max_impressions: 3, days: 7}")
    first, second = client.products()[:2]
    client.send(*[{"type": "impression", "product_id": first}] * 2)
    assert client.products()[0] == first
    client.send({"type": "impression", "product_id": first}, *[{"type": "impression", "product_id": second}] * 3,
                {"type": "cart", "product_id": second})  # fmt: skip
    after = client.products()
    assert first not in after and second in after


def test_an_experiment_compares_rule_sets(start: Callable[..., Client]) -> None:
    today = dt.datetime.now(dt.timezone.utc).date()
    client = start(
        PIN,
        f"experiments: [{{name: rules, start: {today - dt.timedelta(1)}, end: {today + dt.timedelta(1)},"
        " variants: {with: {share: 0.5}, without: {share: 0.5, rules: none}}}]\n",
    )
    first: dict[str, set[bool]] = {"with": set(), "without": set()}
    for number in range(shop.CUSTOMERS):
        response = client.http.get(f"/v1/customers/c{number:02}/recommendations").json()
        first[response["experiments"]["rules"]].add(response["items"][0]["product_id"] == "p58")
    assert first == {"with": {True}, "without": {False}}
    span = (dt.datetime(2000, 1, 1, tzinfo=dt.timezone.utc), dt.datetime(2100, 1, 1, tzinfo=dt.timezone.utc))
    rows = list(client.runtime.online.rows_between("exposures", *span))
    assert {(row["variants"]["rules"], row["filtered"]) for row in rows} == {("with", True), ("without", False)}


def test_an_experiment_with_a_missing_rule_set_pauses(start: Callable[..., Client]) -> None:
    today = dt.datetime.now(dt.timezone.utc).date()
    client = start(
        PIN, f"experiments: [{{name: rules, start: {today}, end: {today + dt.timedelta(1)},"
             " variants: {a: {share: 0.5}, b: {share: 0.5, rules: gone}}}]\n",
    )  # fmt: skip
    response = client.http.get(f"/v1/customers/{ANN}/recommendations").json()
    assert response["experiments"] == {} and response["items"][0]["product_id"] == "p58"
