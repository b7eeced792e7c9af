"""What a challenger must keep to be promoted: the gate's limits, with their defaults and meaning."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GateLimits(BaseModel):
    """What a challenger must keep to be promoted."""

    model_config = ConfigDict(frozen=True)

    margin: float = Field(
        0.05, ge=0, lt=1, description="Share of the champion's NDCG@10 that the challenger may lose, at worst."
    )
    coverage: float = Field(0.8, ge=0, description="Share of the champion's catalog coverage that it must reach.")
    cold_share: float = Field(
        0.3, ge=0, le=1, description="Share of the places in its lists that may go to products nobody bought yet."
    )
    churn: float = Field(
        0.7, ge=0, le=1, description="Share of the places that may differ from the champion's lists of the same day."
    )
    artifact_mb: float = Field(2000.0, gt=0, description="Size of the released model.")
    latency_ms: float = Field(1000.0, gt=0, description="95th percentile of the time it takes for one customer.")
