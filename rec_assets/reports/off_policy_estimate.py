"""`rec-assets off-policy`: estimate the clicks of another model from logged responses with randomized ranking."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from rec_assets.recsys.events import CLICK, IMPRESSION, PURCHASE
from rec_assets.recsys.experiments.exploration import plackett_luce_weights
from rec_assets.recsys.experiments.off_policy import (
    InsufficientData,
    LoggedResponse,
    OffPolicyResult,
    estimate_off_policy,
    fit_reward_model,
)
from rec_assets.recsys.ranking.lists import DISCOVER
from rec_assets.resources.lake import Lake, open_lake
from rec_assets.resources.releases import Release, Releases
from rec_assets.serving.database.events import MAX_RECENT_EVENTS
from rec_assets.serving.recommendation import BUY_AGAIN, CUSTOMER, POOL_FACTOR
from rec_assets.serving.recommender import Recommender, Signal, build_signals
from rec_assets.serving.selection import Selection
from rec_assets.settings import Settings

MAX_RESPONSES = 4000
"""Responses to evaluate. If there are more, those with the first ids, which are random."""

_REWARD_BIN_ENDS = (0.1, 0.3, 1.0)
"""Bins of products in the reward model: the first tenth of the evaluated model's pool, the next two tenths, the rest.
One more bin holds the products outside of the pool."""


class _Pool(NamedTuple):
    """The products that a model samples from, best first, and their weights."""

    products: list[str]
    weights: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _ResponseWithPools:
    """The first items of a logged response, and the pools of the logging and of the evaluated model."""

    unit: str
    products: list[str]
    propensity: npt.NDArray[np.float64]
    reward: npt.NDArray[np.float64]
    logging_pool: _Pool
    evaluated_pool: _Pool


def estimate_clicks(settings: Settings, model: str, *, last_days: int, places: int) -> tuple[Release, OffPolicyResult]:
    """Estimate the clicks per response of a model in the registry, over the first items.

    The model is used as it was registered, with the later events of each customer. Only responses after its as-of day
    count, so that it can't know their clicks. Its ranking is randomized as much as the logged one.

    Args:
        settings: Lake and model registry.
        model: A version or an alias.
        last_days: Days of exposures, the newest.
        places: Number of items of a response, from the first.

    Raises:
        ReleaseError: the registry has no such model.
        InsufficientData: the log has too few usable responses.
    """
    lake, releases = open_lake(settings.lake), Releases(settings.mlflow_uri, settings.registered_model)
    release = releases.get_by_name(model)
    days = [day for day in lake.table("experiment_exposures").days if day > release.index_as_of][-last_days:]
    logged = _usable_exposures(lake, days, places)
    if logged.empty:
        raise InsufficientData(
            f"no usable responses after {release.index_as_of}, the last day that version {release.version} knows: "
            "responses must be later, of an experiment variant with `exploration` above 0, to known customers, without "
            f"filters, rules or diversity, and have {places} or more products"
        )
    events = _events_by_customer(lake, release.index_as_of)
    clicks = _clicks_by_response(lake, days)
    weights = {**settings.feedback.weights, PURCHASE: 1.0}
    with tempfile.TemporaryDirectory() as folder:
        recommenders: dict[int, Recommender] = {}
        for version in {release.version, *logged["model_version"]}:
            releases.download_index(releases.get(int(version)), Path(folder) / str(version))
            recommenders[int(version)] = Recommender.load(Path(folder) / str(version))
        responses = []
        for row in tqdm(logged.itertuples(), total=len(logged), desc="responses", mininterval=1):
            signals = _signals(events.get(row.customer_id), row.time, weights)
            pools = [
                _pool(recommenders[int(v)], row.customer_id, signals, row.mode, row.exploration, len(row.products))
                for v in (row.model_version, release.version)
            ]
            clicked = clicks.get(row.recommendation_id, frozenset())
            shown = list(row.products[:places])
            reward = np.array([float(product in clicked) for product in shown])
            propensity = np.array(row.propensities[:places])
            responses.append(_ResponseWithPools(row.customer_id, shown, propensity, reward, *pools))
    return release, estimate_off_policy(_to_estimator_input(responses, places))


def _usable_exposures(lake: Lake, days: list[dt.date], places: int) -> pd.DataFrame:
    if not days:
        return pd.DataFrame()
    rows = lake.table("experiment_exposures").pandas(days).drop_duplicates("recommendation_id")
    rows = rows[
        (rows["exploration"] > 0) & ~rows["filtered"] & (rows["answered_by"] == CUSTOMER) & (rows["mode"] != BUY_AGAIN)
    ]
    rows = rows[(rows["products"].map(len) >= places) & (rows["teams"].map(len) == 0)]
    has_propensities = rows["propensities"].map(lambda values: not np.isnan(np.asarray(values, float)).any())
    return rows[has_propensities.astype(bool)].sort_values("recommendation_id").head(MAX_RESPONSES)


def _events_by_customer(lake: Lake, after: dt.date) -> dict[str, pd.DataFrame]:
    """Customer → clicks, carts, purchases and returns after a day, oldest first."""
    days = [day for day in lake.table("raw_feedback_events").days if day > after]
    if not days:
        return {}
    events = lake.table("raw_feedback_events").pandas(days)
    events = events[(events["type"] != IMPRESSION) & events["customer_id"].notna()]
    events = events.sort_values(["time", "event_id"], ascending=[True, False])  # the order in which the API reads them
    return {str(customer): rows for customer, rows in events.groupby("customer_id")}


def _signals(events: pd.DataFrame | None, before: pd.Timestamp, weights: Mapping[str, float]) -> tuple[Signal, ...]:
    if events is None:
        return ()
    rows = events[events["received"] < before.timestamp()].tail(MAX_RECENT_EVENTS)
    visit = rows["order_id"].fillna(rows["session_id"]).fillna("")
    return build_signals(list(zip(rows["type"], rows["product_id"], visit, strict=True)), weights)


def _clicks_by_response(lake: Lake, days: list[dt.date]) -> dict[str, frozenset[str]]:
    """recommendation_id → the products clicked in the response."""
    event_days = [day for day in lake.table("raw_feedback_events").days if day >= days[0]]
    events = lake.table("raw_feedback_events").pandas(event_days)
    clicks = events[(events["type"] == CLICK) & events["recommendation_id"].notna()]
    return {str(response): frozenset(rows) for response, rows in clicks.groupby("recommendation_id")["product_id"]}


def _pool(
    recommender: Recommender, customer: str, signals: tuple[Signal, ...], mode: str, exploration: float, length: int
) -> _Pool:
    """The pool from which the API samples a response of that length; see `serving.responder`."""
    ranked = recommender.rank(customer, signals)
    if ranked is None:
        return _Pool([], np.zeros(0))
    shown = Selection.available(recommender.snapshot, [], []).products[ranked.product]
    places = np.flatnonzero(shown & ~ranked.is_bought if mode == DISCOVER else shown)
    places = places[: POOL_FACTOR * length]
    products = [str(product) for product in recommender.snapshot.product_ids[ranked.product[places]]]
    return _Pool(products, plackett_luce_weights(ranked.score[ranked.order[places]], exploration))


def _to_estimator_input(responses: list[_ResponseWithPools], places: int) -> list[LoggedResponse]:
    """Compute the evaluated model's probabilities and the expected rewards of each response."""
    pools = [response.evaluated_pool.products for response in responses]
    bin_of_product = [dict(zip(pool, _reward_bins(len(pool)), strict=True)) for pool in pools]
    outside = len(_REWARD_BIN_ENDS)
    numbered = zip(responses, bin_of_product, strict=True)
    bins = np.array([[bins.get(product, outside) for product in response.products] for response, bins in numbered])
    reward = np.stack([response.reward for response in responses])
    units = np.array([response.unit for response in responses], object)
    expected, half = fit_reward_model(reward, bins, units, outside + 1)
    inputs = []
    for number, response in enumerate(responses):
        reward_model, pool = expected[int(half[number])], response.evaluated_pool
        position = {product: index for index, product in enumerate(pool.products)}
        remaining = pool.weights.copy()
        pool_bins = np.array([bin_of_product[number][product] for product in pool.products], np.int64)
        probability, model_reward = np.zeros(places), np.zeros(places)
        for place, product in enumerate(response.products):
            total = remaining.sum()
            if total > 0:
                model_reward[place] = float((remaining / total * reward_model[place][pool_bins]).sum())
            if product in position and total > 0:
                probability[place] = remaining[position[product]] / total
                remaining[position[product]] = 0.0
        possible = set(response.logging_pool.products)
        whole = pool.weights.sum()
        supported = sum(float(w) for product, w in zip(pool.products, pool.weights, strict=True) if product in possible)
        inputs.append(
            LoggedResponse(
                response.unit, response.propensity, probability, response.reward,
                reward_model[np.arange(places), bins[number]], model_reward,
                supported / whole if whole > 0 else 0.0,
            )
        )  # fmt: skip
    return inputs


def _reward_bins(count: int) -> npt.NDArray[np.int64]:
    """(count,) bin of each product of a pool, best first."""
    return np.searchsorted(np.array(_REWARD_BIN_ENDS), (np.arange(count) + 1) / max(count, 1)).astype(np.int64)
