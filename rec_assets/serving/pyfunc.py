"""The MLflow pyfunc `product-recommender`: loads where there is no Java, Spark or Dagster.

MLflow logs this file and runs it where the model is loaded (models from code); nothing is pickled.

Input: a frame with `customer_id` and, if wanted, `k` (10) and `list` ("all"). Output: one row per recommendation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from rec_assets.serving.recommender import Recommender

INPUT_EXAMPLE = pd.DataFrame({"customer_id": ["1228"], "k": [10], "list": ["all"]})
OUTPUT_EXAMPLE = pd.DataFrame(
    {
        "customer_id": ["1228"],
        "product_id": ["1022254"],
        "rank": [1],
        "score": [0.978757],
        "source": ["repurchase"],
        "reason": ["you buy this every 2 weeks"],
        "product": ["POTATOES SWEET&YAMS 40 LB"],
    }
)


class ProductRecommender(PythonModel):
    """`Recommender` behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Load the index that was logged with the model."""
        self.recommender = Recommender.load(Path(context.artifacts["index"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Recommendations for each row: customer_id, product_id, rank, score, source, reason, product."""
        frames = []
        for row in model_input.to_dict("records"):
            customer = str(row["customer_id"])
            found = self.recommender.recommend(customer, int(row.get("k", 10)), str(row.get("list", "all")))
            frames.append(found.assign(customer_id=customer))
        columns = list(OUTPUT_EXAMPLE.columns)
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


set_model(ProductRecommender())
