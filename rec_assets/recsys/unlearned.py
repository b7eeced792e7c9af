"""What could not be learned of a shop, and why, in words: models that are rightly empty."""

from __future__ import annotations

from rec_assets.recsys.recipe import Recipe

NO_RANKER = "no ranker: the purchases of a horizon are too few or too alike to learn from, so a fixed blend ranks"


def unlearned_models(recipe: Recipe, *, factors: bool, graph: bool, texts: bool, ranker: bool) -> list[str]:
    """One phrase for each model that is not there, with why; none for a shop that taught them all.

    Args:
        recipe: That they were trained with.
        factors, graph, texts, ranker: Whether there are factors of ALS, edges of the co-purchase graph, embeddings, and
            a trained ranker.
    """
    support = recipe.co_purchase.min_support
    said = {
        f"no ALS factors: no product has {recipe.als.min_buyers} customers": not factors,
        f"no co-purchase graph: no two products share {support} baskets or customers": not graph,
        "no text similarity: no product has a text": not texts,
        NO_RANKER: not ranker,
    }
    return [phrase for phrase, holds in said.items() if holds]
