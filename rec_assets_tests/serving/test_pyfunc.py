"""The released model as `mlflow.pyfunc.load_model` and `mlflow models serve` load it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import init

from rec_assets.serving import pyfunc
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.recommender import Recommender


def load(folder: Path, index: Index) -> Any:
    index.save(folder / "index")
    mlflow.pyfunc.save_model(
        folder / "model", python_model=pyfunc.__file__, artifacts={"index": str(folder / "index")},
        signature=pyfunc.SIGNATURE, pip_requirements=[],
    )  # fmt: skip
    return mlflow.pyfunc.load_model(str(folder / "model"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, index: Index) -> Any:
    return load(tmp_path_factory.mktemp("pyfunc"), index)


def test_predict_needs_only_a_customer_id(model: Any, index: Index) -> None:
    found = model.predict(pd.DataFrame({"customer_id": ["c00"]}))
    assert found["product_id"].to_list() == Recommender(index).recommend("c00", 10, "all")["product_id"].to_list()
    response = TestClient(init(model)).post("/invocations", json={"dataframe_records": [{"customer_id": "c00"}]})
    assert response.status_code == 200
    assert [row["product_id"] for row in response.json()["predictions"]] == found["product_id"].to_list()


def test_k_and_list_are_optional(model: Any) -> None:
    rows = pd.DataFrame({"customer_id": ["c00", "c00"], "k": [3, 2], "list": ["discover", None]})
    found = model.predict(rows)
    assert found["rank"].to_list() == [1, 2, 3, 1, 2]
    assert found["product_id"].to_list()[3:] == model.predict(rows[["customer_id", "k"]])["product_id"].to_list()[3:]


def test_the_default_k_is_at_most_the_list_size(tmp_path: Path, index: Index) -> None:
    short = dataclasses.replace(index, recipe=index.recipe.model_copy(update={"list_size": 4}))
    assert len(load(tmp_path, short).predict(pd.DataFrame({"customer_id": ["c00"]}))) == 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"customer_id": "c01", "k": 0}, "row 1: k must be from 1 to 12, not 0"),
        ({"customer_id": "c01", "k": 1_000_000_000}, "row 1: k must be from 1 to 12, not 1000000000"),
        ({"customer_id": "c01", "list": "best"}, "row 1: list must be one of all, discover, not 'best'"),
        ({"customer_id": None}, "row 1: customer_id is missing"),
    ],
)
def test_an_invalid_row_is_named(model: Any, row: dict[str, Any], message: str) -> None:
    rows = [{**row, "customer_id": "c00", **({"k": 1} if "k" in row else {}), "list": "all"}, {"list": "all", **row}]
    with pytest.raises(MlflowException, match=message):
        model.predict(pd.DataFrame(rows))
    response = TestClient(init(model)).post("/invocations", json={"dataframe_records": rows})
    assert response.status_code == 400 and message in response.json()["message"]


def test_a_numeric_customer_id_is_rejected_in_a_frame_and_becomes_text_in_json(model: Any) -> None:
    with pytest.raises(MlflowException, match="column customer_id"):
        model.predict(pd.DataFrame({"customer_id": [1228]}))
    response = TestClient(init(model)).post("/invocations", json={"dataframe_records": [{"customer_id": 1228}]})
    assert response.json()["predictions"][0]["customer_id"] == "1228"
