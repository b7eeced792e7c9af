"""Reasons why models are missing: the data of a shop can't train them."""

from __future__ import annotations

from rec_assets.recsys.recipe import Recipe

NO_RANKER = "no ranker: the purchases of a horizon are too few, or don't differ enough, so the fixed blend ranks"


def missing_model_reasons(recipe: Recipe, *, factors: bool, graph: bool, texts: bool, ranker: bool) -> list[str]:
    """One phrase for each model that is missing, with the reason.

    Args:
        recipe: The recipe that the models were trained with.
        factors, graph, texts, ranker: Whether there are ALS factors, edges of the co-purchase graph, embeddings, and a
            trained ranker.
    """
    support = recipe.co_purchase.min_support
    reasons = {
        f"no ALS factors: no product has {recipe.als.min_buyers} customers": factors,
        f"no co-purchase graph: no two products share {support} baskets or customers": graph,
        "no text similarity: no product has a text": texts,
        NO_RANKER: ranker,
    }
    return [reason for reason, is_trained in reasons.items() if not is_trained]
