"""Follows docs/how-to/add-a-candidate-source.md in a copy of the package: module, registration, recipe field."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "add-a-candidate-source.md"

CHECKS = """
import datetime as dt
import numpy as np
import pandas as pd
import rec_assets
from benchmarks.ablation import FEATURE_GROUPS, proposing_sources
from rec_assets.recsys.data.snapshot_builder import build_product_snapshot
from rec_assets.recsys.evaluation.baselines import BASELINES, baseline_lists
from rec_assets.recsys.ranking.features import FEATURES
from rec_assets.recsys.ranking.lists import build_lists
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.retrieval.candidates import find_candidates

assert rec_assets.__file__.startswith(TARGET), "the changed copy is tested"
ids = [f"p{number:02}" for number in range(30)]
nothing = pd.DataFrame({"product_id": [], "factors": [], "kind": [], "neighbor_id": [], "weight": []})
snapshot = build_product_snapshot(
    dt.date(2024, 6, 30),
    products=pd.DataFrame(
        {"product_id": ids, "title": ids, "category": None, "brand": ["Leaf", "Clay", None] * 10, "price": 1.0,
         "content_hash": None, "first_seen": dt.date(2024, 1, 1), "excluded": False}
    ),
    statistics=pd.DataFrame(
        {"product_id": ids, "order_lines": np.arange(30, 0, -1), "recent_order_lines": 0, "recent_buyers": 0,
         "new_buyers": 0, "buyers": 1, "returns": 0, "repeat_share": 0.0, "interval_days": np.nan, "price": 1.0}
    ),
    factors=nothing, graph=nothing, embeddings=pd.DataFrame({"content_hash": [], "vector": []}),
)
# ann bought Clay first and Leaf last.
lines = pd.DataFrame(
    {"customer_id": "ann", "product_id": ["p01", "p00"], "order_id": ["1", "2"], "age_days": [9, 2], "weight": 1.0,
     "rating": np.nan}
)
recipe = Recipe().with_fields({"candidates.popular": 1})
candidates = find_candidates(lines, snapshot, recipe).set_index("product_id")
leaf = [product for product in ids[3::3]]
assert set(leaf) <= set(candidates.index), "it proposes products that no other source does"
assert (candidates.loc[leaf, "last_brand_score"] > 0).all() and candidates.loc["p01", "last_brand_score"] == 0
without = find_candidates(lines, snapshot, recipe.with_fields({"candidates.last_brand": 0}))
assert not set(leaf[2:]) & set(without["product_id"]), "the recipe can turn the source off"
assert FEATURES.count("last_brand_score") == 1 and FEATURE_GROUPS["last_brand"] == ("last_brand_score",)

lists = build_lists(candidates.reset_index(), Ranker(None, FEATURES), {}, {}, 5)
best = lists[lists["list"] == "discover"].iloc[0]
assert (best["product_id"], best["source"], best["reason"]) == ("p03", "last_brand", "from a brand of your last visit")

baseline = baseline_lists(candidates.reset_index(), 3).query("model == 'last brand alone' and list == 'discover'")
assert baseline["product_id"].tolist() == leaf[:3] and "last brand alone" in BASELINES
assert "last_brand" in proposing_sources(recipe)
"""


@pytest.mark.integration
def test_a_source_from_the_page_shows_up_everywhere(tmp_path: Path) -> None:
    source, registration, field = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    shutil.copytree(ROOT / "rec_assets", tmp_path / "rec_assets", ignore=shutil.ignore_patterns("__pycache__"))
    package = tmp_path / "rec_assets" / "recsys" / "retrieval" / "sources"
    (package / "last_brand.py").write_text(source)
    registry = package / "__init__.py"
    import_line, entry = registration.splitlines()[0], registration.splitlines()[-2]
    text = registry.read_text().replace("\nSOURCES:", f"\n{import_line}\n\nSOURCES:", 1)
    registry.write_text(text.removesuffix(")\n") + f"{entry}\n)\n")
    recipe = tmp_path / "rec_assets" / "recsys" / "recipe.py"
    first = "    als: int"
    recipe.write_text(recipe.read_text().replace(first, f"    {field}{first}", 1))
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    checks = f"TARGET = {str(tmp_path)!r}\n{CHECKS}"
    # Outside the repository: Python puts the working directory first.
    done = subprocess.run(
        [sys.executable, "-c", checks], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
