"""The product state of a day, from the frames of its assets, and the models of a day as the lake holds them."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass

import pandas as pd
import pyarrow.dataset as ds

from rec_assets.recsys.data.product_snapshot import ProductSnapshot, build_product_snapshot
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.unlearned import unlearned_models
from rec_assets.resources.lake import Lake, MissingPartition
from rec_assets.resources.releases import Release


def snapshot_of(
    as_of: dt.date,
    *,
    products: pd.DataFrame,
    product_statistics: pd.DataFrame,
    als_model: pd.DataFrame,
    co_purchase_graph: pd.DataFrame,
    product_embeddings: pd.DataFrame,
) -> ProductSnapshot:
    """Join the assets' frames; parameters are named as the assets are, and `als_model` has the products alone."""
    _require_returns(as_of, product_statistics)
    return build_product_snapshot(
        as_of,
        products=products,
        statistics=product_statistics,
        factors=als_model.rename(columns={"id": "product_id"}),
        graph=co_purchase_graph,
        embeddings=product_embeddings,
    )


def snapshot_without_models(
    as_of: dt.date, products: pd.DataFrame, product_statistics: pd.DataFrame
) -> ProductSnapshot:
    """The state without models: what is known of the products from the catalog and the purchases."""
    _require_returns(as_of, product_statistics)
    return build_product_snapshot(
        as_of, products=products, statistics=product_statistics,
        factors=pd.DataFrame({"product_id": [], "factors": []}),
        graph=pd.DataFrame({"kind": [], "product_id": [], "neighbor_id": [], "weight": []}),
        embeddings=pd.DataFrame({"content_hash": [], "vector": []}),
    )  # fmt: skip


def _require_returns(as_of: dt.date, product_statistics: pd.DataFrame) -> None:
    if "returns" not in product_statistics:
        raise MissingPartition(
            f"product_statistics of {as_of} was made by an earlier version, which counted no returns: materialize "
            "product_statistics and candidates of that day anew"
        )


@dataclass(frozen=True)
class Models:
    """What is released together.

    Attributes:
        als_model: Factors of the products, as the asset of this name gives them.
        co_purchase_graph: As the asset of this name gives it.
        ranker: The blend.
    """

    als_model: pd.DataFrame
    co_purchase_graph: pd.DataFrame
    ranker: Ranker

    @classmethod
    def read(cls, lake: Lake, als_version: dt.date, graph_version: dt.date, ranker_version: dt.date) -> Models:
        """Read the models of these days.

        Raises:
            MissingPartition: one of them isn't in the lake any more.
        """
        return cls(
            lake.pandas("als_model", [als_version], where=ds.field("kind") == "product"),
            lake.pandas("co_purchase_graph", [graph_version]),
            ranker_from(lake.pandas("ranker", [ranker_version])),
        )

    @classmethod
    def of(cls, lake: Lake, release: Release) -> Models:
        """Read the models of a release."""
        return cls.read(lake, release.als_version, release.graph_version, release.ranker_version)


def missing_models(lake: Lake, release: Release) -> list[str]:
    """What the models of a release could not learn, and why, in words; see `unlearned_models`."""
    return missing_by(lake, release.als_version, release.graph_version, release.ranker_version)


def missing_by(lake: Lake, als_version: dt.date, graph_version: dt.date, ranker_version: dt.date) -> list[str]:
    """The same of the models of these days; of those that the lake doesn't keep any more it says nothing."""
    if lake.manifest("ranker", ranker_version) is None:
        return []

    def has_rows(table: str, day: dt.date | None = None) -> bool:
        manifest = lake.manifest(table, day)
        return manifest is None or manifest.rows > 0

    ranker = lake.pandas("ranker", [ranker_version])
    return unlearned_models(
        recipe_from(ranker),
        factors=has_rows("als_model", als_version),
        graph=has_rows("co_purchase_graph", graph_version),
        texts=has_rows("product_embeddings"),
        ranker=ranker_from(ranker).is_learned,
    )


def recipe_from(frame: pd.DataFrame) -> Recipe:
    """The recipe that the models of a day were trained by, as the ranker's partition of that day keeps it."""
    return Recipe.stored(json.loads(frame["recipe"].iloc[0]))


def ranker_from(frame: pd.DataFrame) -> Ranker:
    """The ranker in a partition of the asset of that name."""
    return Ranker.load(frame["model"].iloc[0], tuple(frame["features"].iloc[0]))
