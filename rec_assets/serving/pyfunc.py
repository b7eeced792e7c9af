"""The MLflow pyfunc `product-recommender`, which needs no Java, Spark or Dagster.

MLflow logs this file and runs it when it loads the model ("models from code"). Nothing is pickled.

Input: a frame with `customer_id` (strings) and, optionally, `k` (default: 10, at most the released list size) and
`list` (default: "all"). Output: one row per recommended product.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, Schema

from rec_assets.recsys.ranking.lists import ALL
from rec_assets.serving.recommender import Recommender

_OUTPUTS = {
    "customer_id": "string", "product_id": "string", "rank": "long", "score": "double", "source": "string",
    "reason": "string", "product": "string",
}  # fmt: skip
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec("string", "customer_id"),
            ColSpec("long", "k", required=False),
            ColSpec("string", "list", required=False),
        ]
    ),
    outputs=Schema([ColSpec(type_, name) for name, type_ in _OUTPUTS.items()]),
)
"""MLflow itself rejects numeric customer ids, and a `k` that is missing in some rows."""


class ProductRecommender(PythonModel):
    """`Recommender` as an MLflow model."""

    def load_context(self, context: Any) -> None:
        """Load the index that is logged with the model."""
        self.recommender = Recommender.load(Path(context.artifacts["index"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Recommendations for each row: customer_id, product_id, rank, score, source, reason, product.

        Raises:
            MlflowException: a row has no customer_id, an unknown list or a `k` out of range. `mlflow models serve`
                responds with 400 and the message.
        """
        frames, size = [], min(10, self.recommender.index.recipe.list_size)
        for number, row in enumerate(model_input.to_dict("records")):
            values = {name: value for name, value in row.items() if pd.notna(value)}
            try:
                if "customer_id" not in values:
                    raise ValueError("customer_id is missing")
                customer = str(values["customer_id"])
                found = self.recommender.recommend(customer, int(values.get("k", size)), str(values.get("list", ALL)))
            except ValueError as error:
                raise MlflowException.invalid_parameter_value(f"row {number}: {error}") from None
            frames.append(found.assign(customer_id=customer))
        return pd.concat(frames, ignore_index=True)[[*_OUTPUTS]] if frames else pd.DataFrame(columns=[*_OUTPUTS])


set_model(ProductRecommender())
