"""`rec-assets off-policy`: what another model would have got, from answers that the API gave with chance and logged."""

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
    LoggedAnswer,
    OffPolicy,
    off_policy,
    rewards_expected,
)
from rec_assets.recsys.ranking.hybrid import DISCOVER
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Release, Releases
from rec_assets.serving.online import NEWEST_EVENTS
from rec_assets.serving.recommender import Recommender, Signal, signals_of
from rec_assets.serving.responder import BUY_AGAIN, CUSTOMER, POOL
from rec_assets.settings import Settings

MOST_ANSWERS = 4000
"""Answers looked at; of more, those with the first ids, which are random."""

_KIND_ENDS = (0.1, 0.3, 1.0)
"""Kinds of products for the model of rewards: the challenger's first tenth of its pool, its first three, the rest; and
what isn't in it."""


class _Pool(NamedTuple):
    """What a model draws from: products, best first, and their weights."""

    product: list[str]
    weight: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Answer:
    """A logged answer and both models' pools."""

    unit: str
    product: list[str]
    propensity: npt.NDArray[np.float64]
    reward: npt.NDArray[np.float64]
    ours: _Pool
    theirs: _Pool


def estimate(settings: Settings, model: str, *, last_days: int, places: int) -> tuple[Release, OffPolicy]:
    """Estimate clicks an answer of a model in the registry, over the first places.

    The model is taken as it was registered, with what visitors did since; answers of later days only are looked at, so
    that it knows nothing of what is estimated. Its order has as much chance in it as the logged one.

    Args:
        settings: Of the deployment.
        model: A version or alias.
        last_days: Days of exposures.
        places: Of an answer.

    Raises:
        ReleaseError: the registry has no such model.
        NotEnough: too little was logged to say anything.
    """
    lake, releases = Lake(settings.lake), Releases(settings.mlflow_uri, settings.registered_model)
    release = releases.known(model)
    days = [day for day in lake.days("experiment_exposures") if day > release.as_of][-last_days:]
    logged = _logged(lake, days, places)
    if logged.empty:
        raise InsufficientData(
            f"no usable answers after {release.as_of}, the day on which version {release.version} was registered: it "
            "takes answers given later, in an experiment whose variant has `exploration` above 0, to known customers, "
            f"without filters, rules or diversity, of {places} products or more"
        )
    done = _done(lake, release.as_of)
    clicks = _clicks(lake, days)
    weights = {**settings.feedback.weights, PURCHASE: 1.0}
    with tempfile.TemporaryDirectory() as folder:
        known: dict[int, Recommender] = {}
        for version in {release.version, *logged["model_version"]}:
            releases.fetch_index(releases.get(int(version)), Path(folder) / str(version))
            known[int(version)] = Recommender.load(Path(folder) / str(version))
        answers = []
        for row in tqdm(logged.itertuples(), total=len(logged), desc="answers", mininterval=1):
            signals = _signals(done.get(row.customer_id), row.time, weights)
            pools = [
                _pool(known[int(version)], row.customer_id, signals, row.mode, row.exploration, len(row.products))
                for version in (row.model_version, release.version)
            ]
            clicked = clicks.get(row.recommendation_id, frozenset())
            shown = list(row.products[:places])
            reward = np.array([float(product in clicked) for product in shown])
            answers.append(_Answer(row.customer_id, shown, np.array(row.propensities[:places]), reward, *pools))
    return release, off_policy(_as_logged(answers, places))


def _logged(lake: Lake, days: list[dt.date], places: int) -> pd.DataFrame:
    if not days:
        return pd.DataFrame()
    rows = lake.pandas("experiment_exposures", days).drop_duplicates("recommendation_id")
    rows = rows[
        (rows["exploration"] > 0) & ~rows["filtered"] & (rows["answered_by"] == CUSTOMER) & (rows["mode"] != BUY_AGAIN)
    ]
    rows = rows[(rows["products"].map(len) >= places) & (rows["teams"].map(len) == 0)]
    rows = rows[rows["propensities"].map(lambda each: not np.isnan(np.asarray(each, float)).any()).astype(bool)]
    return rows.sort_values("recommendation_id").head(MOST_ANSWERS)


def _done(lake: Lake, after: dt.date) -> dict[str, pd.DataFrame]:
    """Customer → what they did since a day, oldest first."""
    days = [day for day in lake.days("raw_feedback_events") if day > after]
    events = (
        lake.pandas("raw_feedback_events", days)
        if days
        else pd.DataFrame(columns=["type", "customer_id", "time", "event_id"])
    )
    events = events[(events["type"] != IMPRESSION) & events["customer_id"].notna()]
    events = events.sort_values(["time", "event_id"], ascending=[True, False])  # as the API reads them
    return {str(customer): rows for customer, rows in events.groupby("customer_id")}


def _signals(done: pd.DataFrame | None, before: pd.Timestamp, weights: Mapping[str, float]) -> tuple[Signal, ...]:
    if done is None:
        return ()
    rows = done[done["received"] < before.timestamp()].tail(NEWEST_EVENTS)
    visit = rows["order_id"].fillna(rows["session_id"]).fillna("")
    return signals_of(list(zip(rows["type"], rows["product_id"], visit, strict=True)), weights)


def _clicks(lake: Lake, days: list[dt.date]) -> dict[str, frozenset[str]]:
    """recommendation_id → products clicked in it."""
    there = [day for day in lake.days("raw_feedback_events") if day >= days[0]]
    events = lake.pandas("raw_feedback_events", there)
    clicks = events[(events["type"] == CLICK) & events["recommendation_id"].notna()]
    return {str(answer): frozenset(rows) for answer, rows in clicks.groupby("recommendation_id")["product_id"]}


def _pool(
    recommender: Recommender, customer: str, signals: tuple[Signal, ...], mode: str, exploration: float, length: int
) -> _Pool:
    """What a model's answer of that length would be drawn from; see `Answerer`."""
    ranked = recommender.rank(customer, signals)
    if ranked is None:
        return _Pool([], np.zeros(0))
    places = np.flatnonzero(~ranked.is_bought) if mode == DISCOVER else np.arange(len(ranked.order))
    places = places[: POOL * length]
    product = [str(each) for each in recommender.state.product_ids[ranked.product[places]]]
    return _Pool(product, plackett_luce_weights(ranked.score[ranked.order[places]], exploration))


def _as_logged(answers: list[_Answer], places: int) -> list[LoggedAnswer]:
    kinds = [dict(zip(each.theirs.product, _kinds(len(each.theirs.product)), strict=True)) for each in answers]
    outside = len(_KIND_ENDS)
    kind = np.array(
        [[of.get(product, outside) for product in each.product] for each, of in zip(answers, kinds, strict=True)]
    )
    reward = np.stack([each.reward for each in answers])
    expected, half = rewards_expected(reward, kind, np.array([each.unit for each in answers], object), outside + 1)
    found = []
    for number, each in enumerate(answers):
        model, pool = expected[int(half[number])], each.theirs
        place_of = {product: place for place, product in enumerate(pool.product)}
        left, of_kind = pool.weight.copy(), np.array([kinds[number][product] for product in pool.product], np.int64)
        chance, hoped = np.zeros(places), np.zeros(places)
        for place, product in enumerate(each.product):
            total = left.sum()
            if total > 0:
                hoped[place] = float((left / total * model[place][of_kind]).sum())
            if product in place_of and total > 0:
                chance[place] = left[place_of[product]] / total
                left[place_of[product]] = 0.0
        possible = set(each.ours.product)
        whole = pool.weight.sum()
        held = sum(float(w) for product, w in zip(pool.product, pool.weight, strict=True) if product in possible)
        found.append(
            LoggedAnswer(
                each.unit, each.propensity, chance, each.reward, model[np.arange(places), kind[number]], hoped,
                held / whole if whole > 0 else 0.0,
            )
        )  # fmt: skip
    return found


def _kinds(count: int) -> npt.NDArray[np.int64]:
    """(count,) kind of each product of a pool, best first."""
    return np.searchsorted(np.array(_KIND_ENDS), (np.arange(count) + 1) / max(count, 1)).astype(np.int64)
