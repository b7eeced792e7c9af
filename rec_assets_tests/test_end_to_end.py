"""The results of `rec-assets bootstrap` on a small shop, and their updates when files change."""

import datetime as dt
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
import pytest

from rec_assets.recsys.data.cleaning import CLEANING_RULES
from rec_assets.resources.lake import Lake
from rec_assets_tests.conftest import ODD_NAME, BootstrappedShop, Shop, free_port

RELEASE = ("challenger", "release_gate", "champion", "serving_index")
HOW_TO = Path(__file__).parents[1] / "docs" / "how-to"
DAILY_MODELS = ("product_statistics", "als_model", "co_purchase_graph", "product_snapshot", "candidates")


def fingerprints(lake: Lake) -> dict[str, str]:
    """The content of every partition, without the release tables, which contain run ids and latencies."""
    return {
        f"{name} {day}": partition.fingerprint
        for name in lake.tables()
        if name not in RELEASE
        for day, partition in lake.table(name).partitions.items()
    }


@pytest.fixture
def copy(shop: BootstrappedShop, tmp_path: Path) -> Shop:
    """A copy of the shop for changes, in a folder with another name."""
    shutil.copytree(shop.home, tmp_path / ODD_NAME)
    shutil.copytree(shop.source.parent, tmp_path / "shop")
    return Shop(tmp_path / ODD_NAME, tmp_path / "shop" / shop.source.name)


def test_bootstrap_prints_the_metrics_five_recommendations_and_the_report(shop: BootstrappedShop) -> None:
    assert shop.result.returncode == 0, shop.result.stderr[-3000:]
    printed = shop.result.stdout
    assert "| hybrid " in printed
    assert "| own purchases " in printed
    assert " 5  " in printed
    report = Path(printed.strip().splitlines()[-1].removeprefix("Report: "))
    assert "<html" in report.read_text(encoding="utf-8")


def test_every_asset_has_its_partitions(shop: BootstrappedShop) -> None:
    newest = max(shop.lake.table("raw_purchase_logs").days)
    horizon = dt.timedelta(days=14)
    for table in DAILY_MODELS:
        assert shop.lake.table(table).days == [newest - 2 * horizon, newest - horizon, newest], table
    for table in ("ranker", "hybrid_scores", "similar_products"):
        assert shop.lake.table(table).days == [newest - horizon, newest], table
    for table in ("evaluation_report", *RELEASE):
        assert shop.lake.table(table).days == [newest], table
    for table in ("raw_product_catalog", "catalog_ids", "products", "product_embeddings", "similar_texts"):
        assert shop.lake.table(table).partitions.get(None) is not None, table


def test_no_line_is_lost_on_any_day(shop: BootstrappedShop) -> None:
    days = shop.lake.table("raw_purchase_logs").days
    assert len(days) > 80
    for day in days:
        raw, cleaned, rejected = (
            shop.lake.table(table).partitions.get(day).rows
            for table in ("raw_purchase_logs", "cleaned_interactions", "rejected_purchases")
        )
        assert raw == cleaned + rejected, day
    rejected = shop.lake.table("rejected_purchases").pandas(days)
    assert (
        {"no_customer", "excluded", "duplicate_line"}
        <= set(",".join(rejected["reasons"]).split(","))
        <= set(CLEANING_RULES)
    )
    assert json.loads(rejected["line"].iloc[0])


def test_fully_returned_products_do_not_count_as_bought(shop: BootstrappedShop) -> None:
    day = max(shop.lake.table("candidates").days)
    window = [past for past in shop.lake.table("cleaned_interactions").days if past > day - dt.timedelta(days=60)]
    lines = shop.lake.table("cleaned_interactions").pandas(window)
    signed = lines["quantity"].where(lines["event"] == "purchase", -lines["quantity"])
    balance = signed.groupby([lines["customer_id"], lines["product_id"]]).sum()
    purchased = lines[lines["event"] == "purchase"].groupby(["customer_id", "product_id"]).size()
    times = lines.groupby(["customer_id", "product_id", "event"])["event_time"].agg(["min", "max"]).unstack("event")
    in_order = times["max"]["purchase"] <= times["min"]["return"]  # otherwise an older purchase was returned
    returned = [pair for pair in balance[(balance == 0) & in_order].index if pair in purchased.index]
    assert returned, "the shop has full returns"
    bought = shop.lake.table("candidates").pandas([day], columns=["customer_id", "product_id", "repeat_order_lines"])
    bought = bought[bought["repeat_order_lines"] > 0].set_index(["customer_id", "product_id"])
    assert not [pair for pair in returned if pair in bought.index]


def test_a_second_bootstrap_does_nothing(shop: BootstrappedShop) -> None:
    before = fingerprints(shop.lake)
    again = shop.run("bootstrap")
    assert again.returncode == 0, again.stderr[-2000:]
    steps = [line for line in again.stderr.splitlines() if line.startswith("[")]
    assert len(steps) == 12
    assert all(line.endswith("up to date") for line in steps), steps
    assert fingerprints(shop.lake) == before


def test_recommend_prints_the_documented_json(shop: BootstrappedShop) -> None:
    day = max(shop.lake.table("hybrid_scores").days)
    customer = shop.lake.table("hybrid_scores").pandas([day])["customer_id"].iloc[0]
    found = shop.run("recommend", customer, "--k", "5", "--json")
    rows = json.loads(found.stdout)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    documented = {"product_id", "rank", "score", "reason", "product", "source", "rule", "list", "as_of"}
    versions = {"als_as_of", "ranker_as_of", "rules_version"}
    assert all(set(row) == documented | versions for row in rows)
    assert all(row["reason"] and row["product"] and row["source"] and row["als_as_of"] for row in rows)
    assert {row["as_of"] for row in rows} == {str(day)}


def test_the_examples_of_the_how_to_pages_run(shop: BootstrappedShop) -> None:
    day = max(shop.lake.table("hybrid_scores").days)
    customer = shop.lake.table("hybrid_scores").pandas([day])["customer_id"].iloc[0]
    pages = [HOW_TO / name for name in ("explain-a-recommendation.md", "read-the-lists.md")]
    examples = [code for page in pages for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
    code = "\n".join(examples).replace("dt.date(2017, 12, 31)", f"dt.date({day.year}, {day.month}, {day.day})")
    code = code.replace('"1228"', repr(customer))
    checks = 'print(len(parts) == len(FEATURE_GROUPS), len(lists) == len(lake.table("hybrid_scores").pandas([day])))'
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{checks}"], env=shop.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(examples) == 3 and done.stdout.splitlines()[-1] == "True True"
    assert "repeat_score" in done.stdout


def test_an_unknown_customer_gets_best_sellers_and_a_message(shop: BootstrappedShop) -> None:
    found = shop.run("recommend", "no-such-customer", "--k", "3", "--json")
    assert found.returncode == 0
    assert len(json.loads(found.stdout)) == 3
    assert "customer 'no-such-customer' has no list as of" in found.stderr


def test_an_empty_lake_is_reported_in_one_line(tmp_path: Path, shop: BootstrappedShop) -> None:
    found = Shop(tmp_path, shop.source).run("recommend", "1")
    assert found.returncode == 1
    assert len(found.stderr.strip().splitlines()) == 1
    assert "rec-assets bootstrap" in found.stderr


@pytest.mark.slow
def test_deleted_and_damaged_partitions_are_materialized_again_with_the_same_content(copy: Shop) -> None:
    before, day = fingerprints(copy.lake), max(copy.lake.table("hybrid_scores").days)
    damaged, *_ = sorted((copy.lake.root / "hybrid_scores" / f"date={day}").glob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    shutil.rmtree(copy.lake.root / "co_purchase_graph" / f"date={day}")
    again = copy.run("bootstrap")
    assert again.returncode == 0, again.stderr[-2000:]
    assert f"    hybrid_scores ({day}): damaged: {damaged}" in again.stderr
    assert fingerprints(copy.lake) == before


@pytest.mark.slow
def test_a_corrected_day_updates_exactly_its_downstream_partitions(copy: Shop) -> None:
    before, day = fingerprints(copy.lake), max(copy.lake.table("candidates").days)
    pairs = copy.lake.table("candidates").pandas([day]).sort_values(["customer_id", "product_id"])
    customer, product = pairs.loc[~(pairs["repeat_order_lines"] > 0), ["customer_id", "product_id"]].iloc[0]
    with next((copy.source.parent / "sales").rglob(f"*_{day:%d%m%Y}.csv")).open("a", newline="") as file:
        file.write(f"999998,{product},,2,{day.day}/{day.month}/{day.year} 16:59,2.50,{customer},EIRE\r\n")
    again = copy.run("bootstrap")
    assert again.returncode == 0, again.stderr[-2000:]
    after = fingerprints(copy.lake)
    changed = {partition for partition in before if after[partition] != before[partition]}
    for table in ("raw_purchase_logs", "cleaned_interactions", *DAILY_MODELS, "hybrid_scores", "evaluation_report"):
        assert f"{table} {day}" in changed
    only_that_day = ("raw_purchase_logs", "cleaned_interactions", "rejected_purchases", *DAILY_MODELS[:3])
    assert not [name for name in changed if name.startswith(only_that_day) and not name.endswith(str(day))]
    pairs = copy.lake.table("candidates").pandas([day]).set_index(["customer_id", "product_id"])
    assert pairs.loc[(customer, product), "repeat_order_lines"] == 1


@pytest.mark.slow
def test_a_corrupt_day_is_reported_and_changes_nothing_downstream(copy: Shop) -> None:
    files = sorted((copy.source.parent / "sales").rglob("*.csv"))
    before, broken, corrected = fingerprints(copy.lake), files[-3], files[-5]
    broken.write_text("Nothing,like,an\ninvoice,at,all\n")
    corrected.write_text(
        corrected.read_text(encoding="latin-1").replace("Germany", "Deutschland", 1), encoding="latin-1"
    )
    again = copy.run("bootstrap")
    assert again.returncode == 1
    assert broken.name in again.stderr
    assert "column" in again.stderr
    assert "Traceback" not in again.stderr
    after = fingerprints(copy.lake)
    changed = {partition for partition in before if after[partition] != before[partition]}
    assert all(partition.startswith("raw_purchase_logs ") for partition in changed)


def test_the_released_model_needs_no_java_and_gives_the_lists_of_the_lake(shop: BootstrappedShop) -> None:
    day = max(shop.lake.table("hybrid_scores").days)
    lists = shop.lake.table("hybrid_scores").pandas([day])
    customers = sorted(lists["customer_id"].unique())[:25]
    script = f"""
import json, sys
sys.modules.update(dict.fromkeys(["pyspark", "py4j", "dagster"]))  # blocked, because MLflow imports them if it can
import mlflow, pandas as pd
mlflow.set_tracking_uri("sqlite:///{shop.home}/mlflow/mlflow.db")
model = mlflow.pyfunc.load_model("models:/product-recommender@champion")
customers = {customers!r}
lists = ["all"] * len(customers) + ["discover"] * len(customers)
frame = pd.DataFrame({{"customer_id": customers * 2, "k": 10, "list": lists}})
out = model.predict(frame)
out["list"] = [name for name in ("all", "discover") for _ in range(len(customers) * 10)]
print(json.dumps(out[["customer_id", "list", "rank", "product_id", "reason"]].to_dict("records")))
"""
    environment = {"PATH": "/nowhere", "HOME": str(shop.home)}
    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    released = pd.DataFrame(json.loads(found.stdout.splitlines()[-1])).sort_values(["customer_id", "list", "rank"])
    expected = lists[lists["customer_id"].isin(customers) & (lists["rank"] <= 10)]
    expected = expected.sort_values(["customer_id", "list", "rank"])
    columns = ["customer_id", "list", "rank", "product_id", "reason"]
    assert released[columns].to_numpy().tolist() == expected[columns].to_numpy().tolist()


@pytest.mark.slow
def test_the_mlflow_server_responds_to_the_documented_request(shop: BootstrappedShop) -> None:
    day = max(shop.lake.table("hybrid_scores").days)
    lists = shop.lake.table("hybrid_scores").pandas([day])
    batch = lists[(lists["list"] == "discover") & (lists["rank"] <= 5)].sort_values(["customer_id", "rank"])
    customer = batch["customer_id"].iloc[0]
    port = free_port()
    programs = Path(sys.executable).parent
    server = subprocess.Popen(
        [programs / "mlflow", "models", "serve", "-m", "models:/product-recommender@champion",
         "--env-manager", "local", "-p", str(port)],
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}",
             "MLFLOW_TRACKING_URI": f"sqlite:///{shop.home}/mlflow/mlflow.db"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        payload = {"columns": ["customer_id", "k", "list"], "data": [[customer, 5, "discover"]]}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", json.dumps({"dataframe_split": payload}).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    predictions = pd.DataFrame(json.load(response)["predictions"])
                break
            except urllib.error.URLError:
                assert time.monotonic() < deadline and server.poll() is None
                time.sleep(0.5)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)
    assert predictions["product_id"].to_list() == batch[batch["customer_id"] == customer]["product_id"].to_list()


def test_every_mlflow_run_is_finished_and_the_release_names_its_run_and_days(
    shop: BootstrappedShop, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{shop.home}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("rec_assets")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    ids = [run.data.tags["dagster_run_id"] for run in runs]
    assert len(ids) == len(set(ids))
    released = client.get_model_version_by_alias("product-recommender", "champion")
    assert released.tags["dagster_run_id"] in ids
    assert {"as_of", "als_as_of", "ranker_as_of", "data_fingerprint", "git_commit"} <= set(released.tags)
    inputs = json.loads(Path(client.download_artifacts(released.run_id, "inputs.json", tmp_path)).read_text())
    last = dt.date.fromisoformat(released.tags["ranker_as_of"])
    first = last - dt.timedelta(days=60 + 14 - 1)  # the ranker's candidates are a horizon older
    read = [str(day) for day in shop.lake.table("raw_purchase_logs").days if first <= day <= last]
    assert sorted(inputs["raw_purchase_logs"]) == read and str(first) in read


@pytest.mark.integration
def test_what_tasks_of_spark_import_is_loaded_soon() -> None:
    """Each Python worker of Spark imports it once, while the driver waits."""
    names = (
        "assets.purchase_files",
        "assets.line_cleaning",
        "recsys.ranking.in_spark",
        "resources.product_snapshots",
    )
    slow = {"dagster", "mlflow", "xgboost", "sklearn", "matplotlib", "sentence_transformers"}
    imports = ", ".join(f"rec_assets.{name}" for name in names)
    script = f"import sys, {imports}\nassert not {slow} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("retrieval.als_model, data.interactions, retrieval.co_purchase_graph, data.cleaning", "dagster mlflow"),
        ("retrieval.candidates, ranking.lists, rules.rerank, evaluation.evaluate", "dagster mlflow pyspark"),
    ],
)
def test_recsys_imports_neither_dagster_nor_mlflow_and_ranks_without_spark(modules: str, absent: str) -> None:
    imports = "\n".join(f"import rec_assets.recsys.{module}" for module in modules.split(", "))
    script = f"import sys\n{imports}\nassert not set({absent.split()}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
