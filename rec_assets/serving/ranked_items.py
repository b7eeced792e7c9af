"""Ranked products with lazy explanations, and the steps that change their order: rules, randomization, diversity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rec_assets.recsys.arrays import Floats, Longs, Mask
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.experiments.exploration import conditional_propensities, plackett_luce_weights
from rec_assets.recsys.ranking.lists import PINNED, PINNED_REASON
from rec_assets.recsys.rules.compiled import CompiledRules
from rec_assets.recsys.rules.effects import ScoredCandidates
from rec_assets.recsys.rules.rerank import rerank

Explain = Callable[[Longs], tuple[list[str], list[str]]]
"""From positions among the ranked items to their sources and reasons."""


@dataclass(frozen=True, eq=False)
class RankedItems:
    """n products in ranked order. `explain` explains only the items to show, because it takes time.

    Attributes:
        product: (n,) positions in the product snapshot, best first.
        score: (n,)
        rule_text: From a position among these items to the text of the rule that raised or pinned the item, or None.
    """

    product: Longs
    score: Floats
    explain: Explain
    rule_text: Callable[[int], str | None] = lambda _: None

    def filter(self, keep: Mask) -> RankedItems:
        """The items where `keep`, (n,), is true."""
        positions = np.flatnonzero(keep)
        return RankedItems(
            self.product[positions],
            self.score[positions],
            lambda chosen: self.explain(positions[chosen]),
            lambda position: self.rule_text(int(positions[position])),
        )

    def rerank(
        self, rules: CompiledRules, candidates: ScoredCandidates, depth: int, is_excluded: Callable[[int], bool]
    ) -> RankedItems:
        """Apply merchandising rules; `candidates` are these items. See `recsys.rules.rerank`."""
        product, row, rule = rerank(rules, candidates, depth, is_excluded)
        score = np.append(self.score, 0)[row].astype(np.float32)  # 0 for a pinned product that was no candidate: row −1

        def explain(chosen: Longs) -> tuple[list[str], list[str]]:
            old = row[chosen]
            known = iter(zip(*self.explain(old[old >= 0]), strict=True)) if (old >= 0).any() else iter(())
            pairs = [next(known) if each >= 0 else (PINNED, PINNED_REASON) for each in old]
            return [name for name, _ in pairs], [reason for _, reason in pairs]

        def rule_text(position: int) -> str | None:
            return None if rule[position] < 0 else rules.messages[rule[position]]

        return RankedItems(product, score, explain, rule_text)


def randomize(score: Floats, exploration: float, rng: np.random.Generator) -> tuple[Longs, list[float | None]]:
    """Draw an order from a Plackett–Luce model over the scores.

    `score` is (n,), of the items in ranked order. Returns (n,) positions in the drawn order, and their propensities.
    """
    # Sorted, because rules may have changed the order: weights depend on the position.
    weight = plackett_luce_weights(np.sort(score)[::-1], exploration)
    # Log-weights plus Gumbel noise sample without replacement in proportion to the weights (Kool et al. 2019).
    order = np.argsort(-(np.log(weight) + rng.gumbel(size=len(score))), kind="stable")
    return order, [*conditional_propensities(weight[order])]


def diversify(product: Longs, snapshot: ProductSnapshot, k: int, diversity: float) -> Longs:
    """Maximal marginal relevance (Carbonell & Goldstein 1998).

    Each step takes the item with the best balance of relevance and similarity to the items taken before. Relevance
    falls linearly with the position. Similarity is the cosine of text embeddings or, without texts, 1 within a
    category. Returns positions of min(k, n) items of the (n,) products.
    """
    n = len(product)
    text = snapshot.text[product]
    has_text = (text >= 0)[:, None]
    vectors = np.where(has_text, snapshot.embeddings[text], 0) if snapshot.embeddings.size else np.zeros((n, 1))
    both_have_text = has_text & has_text.T
    same_category = snapshot.category[product][:, None] == snapshot.category[product][None, :]
    similarity = np.where(both_have_text, vectors @ vectors.T, same_category)
    relevance = (1 - diversity) * (1 - np.arange(n) / max(n, 1))
    max_similarity, remaining, order = np.zeros(n), np.full(n, True), []
    for _ in range(min(k, n)):
        best = int(np.argmax(np.where(remaining, relevance - diversity * max_similarity, -np.inf)))
        order.append(best)
        remaining[best] = False
        max_similarity = np.maximum(max_similarity, similarity[best])
    return np.array(order, dtype=np.int64)
