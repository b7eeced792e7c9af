"""Settings of retention: how many days of each table housekeeping keeps."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator


def _days(default: int | None, table: str) -> int | None:
    return Field(default, ge=1, description=f"Number of days of `{table}` that housekeeping keeps. `none` keeps all.")


class RetentionSettings(BaseModel):
    """Days to keep of each table, counted back from the newest day of raw_purchase_logs, as `REC_RETENTION__…`.

    None keeps all days. As an environment variable, `none` is None: `REC_RETENTION__CANDIDATES=none`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    raw_purchase_logs: int | None = _days(None, "raw_purchase_logs")
    cleaned_interactions: int | None = _days(None, "cleaned_interactions")
    rejected_purchases: int | None = _days(None, "rejected_purchases")
    raw_feedback_events: int | None = _days(None, "raw_feedback_events")
    experiment_exposures: int | None = _days(None, "experiment_exposures")
    customer_histories: int | None = _days(70, "customer_histories")
    product_statistics: int | None = _days(None, "product_statistics")
    recipe: int | None = _days(None, "recipe")
    als_model: int | None = _days(180, "als_model")
    co_purchase_graph: int | None = _days(180, "co_purchase_graph")
    product_snapshot: int | None = _days(90, "product_snapshot")
    candidates: int | None = _days(70, "candidates")
    ranker: int | None = _days(None, "ranker")
    hybrid_scores: int | None = _days(90, "hybrid_scores")
    similar_products: int | None = _days(30, "similar_products")
    evaluation_report: int | None = _days(None, "evaluation_report")
    champion: int | None = _days(None, "champion")

    @field_validator("*", mode="before")
    @classmethod
    def _parse_none(cls, value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() in ("none", "null", "") else value
