"""Exposures: the responses that were part of an experiment."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rec_assets.serving.database.erasure import ErasureStore
from rec_assets.serving.database.tables import exposures


@dataclass(frozen=True)
class Exposure:
    """A response that was part of an experiment.

    Attributes:
        recommendation_id: Of the response; events refer to it.
        time: In UTC.
        customer_id, session_id: The shopper.
        variants: Experiment → variant.
        model_version: Model of the response; with interleaving, of the control.
        mode, exploration: As requested, or as the variant changed them.
        filtered: Whether the list of candidates can't be reproduced: the request had filters or events that are not
            stored, or merchandising rules applied.
        answered_by: What the response is based on; see `RecommendationResponse`.
        items: Items in order: `product_id`, `propensity` (probability of this item at this rank, given the items above;
            null if unknown) and, with interleaving, `team`: the variant that the item comes from.
        simulated: Whether the traffic simulator sent the request.
    """

    recommendation_id: str
    time: dt.datetime
    customer_id: str | None
    session_id: str | None
    variants: dict[str, str]
    model_version: int
    mode: str
    exploration: float
    filtered: bool
    answered_by: str
    items: list[dict[str, Any]]
    simulated: bool


class ExposureStore(ErasureStore):
    """Exposures."""

    def record_exposure(self, exposure: Exposure) -> None:
        """Write an exposure, unless its customer was forgotten since the request."""
        row = {**vars(exposure), "time": exposure.time.timestamp()}
        with self.engine.begin() as connection:
            if not self._forgotten_rows(connection, [row]):
                connection.execute(sa.insert(exposures).values(**row))
