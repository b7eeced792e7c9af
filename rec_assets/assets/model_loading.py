"""Loading models from the lake: the active models of a day, and those of a release."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd
import pyarrow.dataset as ds

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.data.snapshot_builder import with_models
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.recipe import Recipe
from rec_assets.resources.lake import Lake, LakeTable, MissingPartition
from rec_assets.resources.releases import AS_OF_NAMES, Release, Releases

NO_RANKER = "no ranker: too few candidates were bought in the horizon, or all of them, so the fixed blend ranks"
"""The reason without a trained ranker."""


MODELS_OF_PRODUCTS = ("als_model", "co_purchase_graph")
"""The models that a product snapshot contains."""


def model_days_of_snapshot(lake: Lake, day: dt.date) -> dict[str, dt.date | None]:
    """`als_as_of` and `graph_as_of` of a day's product snapshot; None if it has no products."""
    names = [AS_OF_NAMES[model] for model in MODELS_OF_PRODUCTS]
    rows = lake.table("product_snapshot").head(day, rows=1).select(names).to_pylist()
    return dict(rows[0]) if rows else dict.fromkeys(names)


def released_model(lake: Lake, release: Release, name: str) -> tuple[LakeTable, dt.date]:
    """The table of a model at the version that a release was made from, and the day of the model in it.

    If that version is gone, such as after a new start of the lake, it is the newest one.

    Raises:
        MissingPartition: neither has the day.
    """
    day: dt.date = getattr(release, AS_OF_NAMES[name])
    with suppress(MissingPartition):
        table, fingerprint = lake.at(release.table_versions).table(name), release.model_fingerprints.get(name)
        if table.is_intact(day) and table.partitions[day].fingerprint == fingerprint:
            return table, day
    table = lake.table(name)
    if day not in table.partitions:
        raise MissingPartition(
            f"{name} of {day}, which version {release.version} was made from, is not in the lake: materialize {name} "
            f"for {day}, or roll back to another release with `rec-assets rollback --to VERSION`"
        )
    return table, day


def newest_day(table: LakeTable, first: dt.date, last: dt.date) -> dt.date:
    """The newest day of a table from `first` to `last`. Raises MissingPartition if there is none."""
    if not (days := [day for day in table.days if first <= day <= last]):
        raise MissingPartition(f"{table.name}: nothing from {first} to {last}: materialize {table.name} for {last}")
    return days[-1]


@dataclass(frozen=True)
class ActiveModels:
    """The models that the lists of a day are made with: those of the active release, of any age.

    Before the first release, it is the newest model of the last `reuse_days`.
    """

    lake: Lake
    releases: Releases
    reuse_days: int

    def load(self, name: str, day: dt.date) -> tuple[pd.DataFrame, dt.date]:
        """A model (of `als_model`, the factors of the products) and its as-of day.

        Raises:
            MissingPartition: it is not in the lake.
        """
        if (release := self.releases.active(day)) is not None:
            table, model_day = released_model(self.lake, release, name)
        else:
            table = self.lake.table(name)
            model_day = newest_day(table, day - dt.timedelta(days=self.reuse_days - 1), day)
        return _load(table, model_day), model_day


@dataclass(frozen=True)
class ReleasedModels:
    """Models that are released together.

    Attributes:
        als_model: ALS factors of the products, as in the asset.
        co_purchase_graph: As in the asset.
        ranker: The ranker.
    """

    als_model: pd.DataFrame
    co_purchase_graph: pd.DataFrame
    ranker: Ranker

    @classmethod
    def load(cls, lake: Lake, day: dt.date) -> ReleasedModels:
        """Load the models of a day.

        Raises:
            MissingPartition: a model is not in the lake.
        """
        return cls._load(*((lake.table(name), day) for name in AS_OF_NAMES))

    @classmethod
    def from_release(cls, lake: Lake, release: Release) -> ReleasedModels:
        """Load the models that a release was made from. Raises as `load`."""
        return cls._load(*(released_model(lake, release, name) for name in AS_OF_NAMES))

    def in_snapshot(self, snapshot: ProductSnapshot) -> ProductSnapshot:
        """The products of a snapshot, with these models."""
        return with_models(snapshot, self.als_model.rename(columns={"id": "product_id"}), self.co_purchase_graph)

    @classmethod
    def _load(
        cls, als: tuple[LakeTable, dt.date], graph: tuple[LakeTable, dt.date], ranker: tuple[LakeTable, dt.date]
    ) -> ReleasedModels:
        return cls(_load(*als), _load(*graph), load_ranker(_load(*ranker)))


def _load(table: LakeTable, day: dt.date) -> pd.DataFrame:
    """A model. There are many customers, so of `als_model` it loads only the factors of the products."""
    return table.pandas([day], where=ds.field("kind") == "product" if table.name == "als_model" else None)


def missing_models(lake: Lake, release: Release) -> list[str]:
    """The models that a release lacks, and why, as phrases."""
    return missing_models_as_of(lake, release.als_as_of, release.graph_as_of, release.ranker_as_of)


def missing_models_as_of(lake: Lake, als_as_of: dt.date, graph_as_of: dt.date, ranker_as_of: dt.date) -> list[str]:
    """The models that are missing as of these days, and why. Models that the lake has deleted are not reported."""
    if ranker_as_of not in lake.table("ranker").partitions:
        return []

    def has_rows(table: str, day: dt.date | None = None) -> bool:
        found = lake.table(table).partitions.get(day)
        return found is None or found.rows > 0

    ranker = lake.table("ranker").pandas([ranker_as_of])
    return missing_model_reasons(
        recipe_of_ranker(ranker),
        factors=has_rows("als_model", als_as_of),
        graph=has_rows("co_purchase_graph", graph_as_of),
        texts=has_rows("product_embeddings"),
        ranker=load_ranker(ranker).is_trained,
    )


def missing_model_reasons(recipe: Recipe, *, factors: bool, graph: bool, texts: bool, ranker: bool) -> list[str]:
    """One phrase for each model that there is not: the model, and why the data of the shop can't train it."""
    support = recipe.co_purchase.min_support
    reasons = {
        f"no ALS factors: no product has {recipe.als.min_buyers} customers": factors,
        f"no co-purchase graph: no two products share {support} baskets or customers": graph,
        "no text similarity: no product has a text": texts,
        NO_RANKER: ranker,
    }
    return [reason for reason, is_trained in reasons.items() if not is_trained]


def recipe_of_ranker(frame: pd.DataFrame) -> Recipe:
    """The recipe of a day's models, which the partition of the asset `ranker` stores."""
    return Recipe.from_stored(json.loads(frame["recipe"].iloc[0]))


def recipe_as_of(lake: Lake, ranker_as_of: dt.date) -> Recipe | None:
    """The recipe of the models with the ranker of a day; None if the lake has deleted it."""
    table = lake.table("ranker")
    return recipe_of_ranker(table.pandas([ranker_as_of])) if ranker_as_of in table.partitions else None


def load_ranker(frame: pd.DataFrame) -> Ranker:
    """The ranker from a partition of the asset `ranker`."""
    return Ranker.load(frame["model"].iloc[0], tuple(frame["features"].iloc[0]))
