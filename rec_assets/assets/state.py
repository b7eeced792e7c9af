"""The product state of a day, from the frames of its assets: input of candidates, similar products and the release."""

import datetime as dt

import pandas as pd

from rec_assets.recsys.product_state import ProductState, build_product_state


def state_of(
    as_of: dt.date,
    *,
    products: pd.DataFrame,
    product_statistics: pd.DataFrame,
    als_model: pd.DataFrame,
    co_purchase_graph: pd.DataFrame,
    product_embeddings: pd.DataFrame,
) -> ProductState:
    """Join the assets' frames; parameters are named as the assets are."""
    return build_product_state(
        as_of,
        products=products,
        statistics=product_statistics,
        factors=als_model[als_model["kind"] == "product"].rename(columns={"id": "product_id"}),
        graph=co_purchase_graph,
        embeddings=product_embeddings,
    )
