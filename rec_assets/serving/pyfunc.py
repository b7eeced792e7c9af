"""The MLflow pyfunc `product-recommender`: loads where there is no Java, Spark or Dagster.

MLflow logs this file and runs it where the model is loaded (models from code); nothing is pickled.

Input: a frame with `customer_id` (strings) and, if wanted, `k` (10, or the released list size if that is less) and
`list` ("all"). Output: one row per recommendation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, Schema

from rec_assets.recsys.ranking.hybrid import ALL
from rec_assets.serving.recommender import Recommender

SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec("string", "customer_id"),
            ColSpec("long", "k", required=False),
            ColSpec("string", "list", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec("string", "customer_id"),
            ColSpec("string", "product_id"),
            ColSpec("long", "rank"),
            ColSpec("double", "score"),
            ColSpec("string", "source"),
            ColSpec("string", "reason"),
            ColSpec("string", "product"),
        ]
    ),
)
"""What MLflow lets through to `predict`: numbers as customer ids, or a `k` that some rows lack, it refuses itself."""


class ProductRecommender(PythonModel):
    """`Recommender` behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Load the index that was logged with the model."""
        self.recommender = Recommender.load(Path(context.artifacts["index"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Recommendations for each row: customer_id, product_id, rank, score, source, reason, product.

        Raises:
            MlflowException: a row has no customer_id, an unknown list or a `k` out of range; `mlflow models serve`
                answers with 400 and the message.
        """
        frames, size = [], min(10, self.recommender.index.recipe.list_size)
        for number, row in enumerate(model_input.to_dict("records")):
            given = {name: value for name, value in row.items() if pd.notna(value)}
            try:
                if "customer_id" not in given:
                    raise ValueError("customer_id is missing")
                customer = str(given["customer_id"])
                found = self.recommender.recommend(customer, int(given.get("k", size)), str(given.get("list", ALL)))
            except ValueError as error:
                raise MlflowException.invalid_parameter_value(f"row {number}: {error}") from None
            frames.append(found.assign(customer_id=customer))
        columns = SIGNATURE.outputs.input_names()
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


set_model(ProductRecommender())
