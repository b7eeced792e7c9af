"""Routes with the tag `products`: related products of a product, and trending products."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Query

from rec_assets.serving.database.tables import READ
from rec_assets.serving.engine import Engine
from rec_assets.serving.http import schemas
from rec_assets.serving.http.dependencies import Caller, ProductId, WorkerState, current_engine, require_scope
from rec_assets.serving.http.errors import ERROR_RESPONSES
from rec_assets.serving.http.security import RequestRejected
from rec_assets.serving.recommendation import RecommendedItem
from rec_assets.serving.related import Products

_UNKNOWN_PRODUCT = "the current index has no product with this id: check the id; new products come with the next index"
_REASONS = {"similar": "similar", "complements": "bought together", "upsell": "similar, at a higher price"}


def add_product_routes(app: FastAPI, state: WorkerState) -> None:
    """Add the routes to the app."""
    may_read, engine_of_request = Depends(require_scope(state, READ)), Depends(current_engine(state))
    responses = {**ERROR_RESPONSES, 404: {"model": schemas.ErrorResponse, "description": "No such product."}}

    def add_related_route(name: str, summary: str) -> None:
        async def related(
            product_id: ProductId,
            query: Annotated[schemas.ProductQuery, Query()],
            caller: Annotated[Caller, may_read],
            engine: Annotated[Engine, engine_of_request],
        ) -> schemas.ProductList:
            position = engine.recommender.positions.get(product_id)
            if position is None:
                raise RequestRejected(404, "unknown_product", _UNKNOWN_PRODUCT)
            products, unavailable = engine.related[name](position), caller.online_snapshot.unavailable
            return _product_list(products, engine, unavailable, query.k, name, _REASONS[name])

        app.get(
            f"/v1/products/{{product_id:id}}/{name}", tags=["products"], responses=responses, summary=summary,
            operation_id=name,
        )(related)  # fmt: skip

    add_related_route("similar", "Substitutes for a product")
    add_related_route("complements", "Products of other categories that are bought together with a product")
    add_related_route("upsell", "Substitutes for a product at a higher price")

    @app.get("/v1/trending", tags=["products"], responses=ERROR_RESPONSES)
    async def trending(
        query: Annotated[schemas.TrendingQuery, Query()],
        caller: Annotated[Caller, may_read],
        engine: Annotated[Engine, engine_of_request],
    ) -> schemas.ProductList:
        """Products with more recent buyers than expected."""
        position, score = engine.trending
        if query.category is not None:
            snapshot = engine.recommender.snapshot
            keep = snapshot.categories[snapshot.category[position]] == query.category
            position, score = position[keep], score[keep]
        unavailable = caller.online_snapshot.unavailable
        return _product_list((position, score), engine, unavailable, query.k, "trending", "trending")


def product_list_fields(items: Sequence[RecommendedItem], engine: Engine, recommendation_id: str) -> dict[str, Any]:
    """Fields of `schemas.ProductList`."""
    return {
        "recommendation_id": recommendation_id,
        "model_version": engine.published.version,
        "as_of": engine.published.as_of,
        "items": [
            schemas.Item(rank=rank, **{**vars(item), "score": round(item.score, 6)})  # the precision of float32
            for rank, item in enumerate(items, start=1)
        ],
    }


def _product_list(
    products: Products, engine: Engine, unavailable: frozenset[str], k: int, source: str, reason: str
) -> schemas.ProductList:
    """The first k products that are available and that the default rules allow."""
    position, score = products
    selection = engine.available(unavailable)
    can_be_shown = selection.products & engine.responder.default_rules.visible
    keep = np.flatnonzero(can_be_shown[position])[:k]
    responder = engine.responder
    items = [
        responder.item(product, shown, source, reason, variant=responder.best_variant(product, selection))
        for product, shown in zip(position[keep].tolist(), score[keep].tolist(), strict=True)
    ]
    return schemas.ProductList(**product_list_fields(items, engine, uuid.uuid4().hex))
