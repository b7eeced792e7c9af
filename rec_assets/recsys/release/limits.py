"""Limits of the release gate, which are the settings `REC_GATE__…`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GateLimits(BaseModel):
    """Limits that a challenger must meet to be promoted."""

    model_config = ConfigDict(frozen=True)

    max_ndcg_loss: float = Field(
        0.05, ge=0, lt=1, description="Allowed loss of NDCG@10 (interval's low end), as a share of the champion's."
    )
    min_coverage: float = Field(0.8, ge=0, description="Catalog coverage, as a share of the champion's.")
    max_cold_share: float = Field(
        0.3, ge=0, le=1, description="Share of the items in discover lists that nobody has bought yet."
    )
    max_churn: float = Field(
        0.7, ge=0, le=1, description="Share of the items that differ from the champion's lists of the same day."
    )
    max_artifact_mb: float = Field(2000.0, gt=0, description="Size of the released model.")
    max_latency_ms: float = Field(1000.0, gt=0, description="95th percentile of the response time for one customer.")
