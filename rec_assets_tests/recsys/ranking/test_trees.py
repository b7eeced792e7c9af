"""The compiled trees, compared with XGBoost on random rows."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb

from rec_assets.recsys.ranking.trees import Trees

COLUMNS, ROWS = 6, 2003
"""The rows are no multiple of those that go down a tree together."""


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Missing values, and many that tie."""
    rng = np.random.default_rng(5)
    rows = rng.integers(-4, 5, size=(ROWS, COLUMNS)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    return rows


@pytest.fixture(scope="module", params=[(1, 40), (5, 60), (12, 30)], ids=lambda size: "depth {} trees {}".format(*size))
def booster(request: pytest.FixtureRequest, rows: np.ndarray) -> xgb.Booster:
    """Trees with paths of different lengths, and missing values that go left or right."""
    depth, trees = request.param
    noise = np.random.default_rng(1).normal(size=ROWS)
    label = np.nan_to_num(rows[:, 0] * rows[:, 1]) + np.isnan(rows[:, 2]) * np.nan_to_num(rows[:, 3]) + noise > 2
    parameters = {"objective": "binary:logistic", "max_depth": depth, "eta": 0.3, "colsample_bytree": 0.6, "seed": 3}
    return xgb.train(parameters, xgb.DMatrix(rows, label=label), num_boost_round=trees)


def test_log_odds_are_those_of_xgboost(booster: xgb.Booster, rows: np.ndarray) -> None:
    trees = Trees.from_booster(booster, range(COLUMNS))
    expected = booster.inplace_predict(rows, predict_type="margin")
    for count in (0, 1, 8, ROWS):
        assert np.array_equal(trees.log_odds(rows[:count]), expected[:count])


def test_contributions_are_those_of_xgboost(booster: xgb.Booster, rows: np.ndarray) -> None:
    trees = Trees.from_booster(booster, range(COLUMNS))
    by_feature = booster.predict(xgb.DMatrix(rows[:50]), pred_contribs=True, approx_contribs=True)[:, :-1]
    group = np.array([0, 1, 1, 2, 0, 2], np.int32)
    expected = np.stack([by_feature[:, group == number].sum(axis=1) for number in range(3)], axis=1)
    assert trees.contributions(rows[:50], group, 3) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_features_may_be_in_other_columns(booster: xgb.Booster, rows: np.ndarray) -> None:
    columns = [4, 2, 0, 5, 1, 6]
    moved = np.full((ROWS, 7), 9, np.float32)
    moved[:, columns] = rows
    there, here = Trees.from_booster(booster, columns), Trees.from_booster(booster, range(COLUMNS))
    assert np.array_equal(there.log_odds(moved), here.log_odds(rows))
    by_feature = here.contributions(rows, np.arange(6, dtype=np.int32), 6)
    assert np.array_equal(there.contributions(moved, np.arange(7, dtype=np.int32), 7)[:, columns], by_feature)


def test_functions_are_compiled_where_no_folder_can_keep_the_machine_code(tmp_path: Path) -> None:
    """Without a home folder and beside a file that is no folder."""
    module = tmp_path / "sums.py"
    module.write_text(
        "from rec_assets.recsys.compiled import compiled\n"
        "@compiled\ndef total(values):\n    out = 0\n    for value in values:\n        out += value\n    return out\n"
    )
    (tmp_path / "__pycache__").write_text("")
    nowhere = {"HOME": str(module), "XDG_CACHE_HOME": str(module), "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    code = "import numpy, sums; print(sums.total(numpy.arange(4)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **nowhere}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "6\n", done.stderr
