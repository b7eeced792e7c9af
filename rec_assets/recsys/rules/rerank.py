"""Re-ranking: apply compiled rules to the scored candidates of one customer.

The batch and the API both use `rerank`, so they show the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rec_assets.recsys.arrays import Floats, Longs
from rec_assets.recsys.rules.compiled import CompiledRules
from rec_assets.recsys.rules.effects import BLOCK_SIZE, Boost, Cap, Complements, Pin, ScoredCandidates, ScoreFactor

Rows = list[int]
"""Rows of `ScoredCandidates`."""

_DISCOUNT = 1 / np.log2(np.arange(2, BLOCK_SIZE + 2))


class RerankedItems(NamedTuple):
    """The m items to show, best first.

    Attributes:
        product: (m,) positions in the product snapshot.
        row: (m,) rows in the scored candidates; −1 for a pinned product that is no candidate.
        rule: (m,) number of the rule that raised or pinned the item; −1 for none.
    """

    product: Longs
    row: Longs
    rule: Longs


def rerank(
    rules: CompiledRules, scored: ScoredCandidates, depth: int, is_excluded: Callable[[int], bool]
) -> RerankedItems:
    """Hide, multiply scores, put first, cap, boost and pin, in this order.

    Args:
        rules: The compiled rules.
        scored: The customer's candidates, without those that filters or stock exclude.
        depth: Number of items to return. The order does not depend on it.
        is_excluded: Whether this list must not show a product. Only asked for pinned products that are no candidates.
    """
    rule = np.full(len(scored.product), -1, np.int64)
    left = _by_score(rules, scored, rule)
    first: Rows = []
    for number, complements in rules.of_type(Complements):
        selected = complements.select(scored, _without(left, first))
        rule[selected] = number
        first += selected
    left = first + _without(left, first)
    caps = [_CapCheck(cap.group[scored.product].tolist(), cap.max_items) for _, cap in rules.of_type(Cap)]
    boosts = [(number, boost, boost.weight[scored.product] * scored.score) for number, boost in rules.of_type(Boost)]
    pins = sorted(rules.of_type(Pin), key=lambda numbered: numbered[1].position)
    ordered, fixed = Rows(), set(first)
    while left and len(ordered) < depth + len(pins):
        block = _next_block(left, caps)
        for number, boost, boosted_score in boosts:
            before, block = block, _boosted(boost, boosted_score, block, left, scored.score, caps, fixed)
            entered = [row for row in block if row not in before]
            rule[entered] = number
            fixed.update(row for row in block if boosted_score[row] > 0)
        left = _without(left, block)
        ordered += block
    pinned = {pin.product: -1 for _, pin in pins}
    pinned |= {product: row for row, product in enumerate(scored.product.tolist()) if product in pinned}
    items = [(int(scored.product[row]), row, int(rule[row])) for row in ordered if scored.product[row] not in pinned]
    for number, pin in pins:
        row = pinned[pin.product]
        can_be_shown = rules.visible[pin.product] and (row >= 0 or not is_excluded(pin.product))
        # If there are more candidates, a pin below the computed part is below the depth, too.
        if can_be_shown and (pin.position <= len(items) or not left):
            items.insert(pin.position, (pin.product, row, number))
    return RerankedItems(*np.array(items[:depth], np.int64).reshape(-1, 3).T)


def _by_score(rules: CompiledRules, scored: ScoredCandidates, rule: Longs) -> Rows:
    """The visible rows by score · factors. Sets `rule` of the rows that rose to the rule that raised them most."""
    rows = np.flatnonzero(rules.visible[scored.product])
    score_factors = rules.of_type(ScoreFactor)
    if score_factors and len(rows):
        numbers = np.array([number for number, _ in score_factors])
        factors = np.stack([np.asarray(effect.of_rows(scored, rows), np.float64) for _, effect in score_factors])
        order = np.argsort(-(scored.score[rows] * factors.prod(axis=0)), kind="stable")
        rows = rows[order]
        strongest = (factors / np.maximum(factors.mean(axis=1, keepdims=True), 1e-12)).argmax(axis=0)[order]
        rose = order > np.arange(len(order))
        rule[rows[rose]] = numbers[strongest[rose]]
    return list(map(int, rows))


class _CapCheck(NamedTuple):
    """The group of each candidate (−1 for none) and how many of one group a block can hold."""

    group: list[int]
    max_items: int

    def allows(self, rows: Rows) -> bool:
        """Whether the last row can be in one block with the others."""
        group = self.group[rows[-1]]
        return group < 0 or sum(self.group[row] == group for row in rows) <= self.max_items


def _next_block(left: Rows, caps: list[_CapCheck]) -> Rows:
    """The first ten rows that the caps allow; if there are fewer, other rows fill the block."""
    if not caps:
        return left[:BLOCK_SIZE]
    block: Rows = []
    for row in left:
        if len(block) == BLOCK_SIZE:
            break
        if all(cap.allows([*block, row]) for cap in caps):
            block.append(row)
    return block + _without(left, block)[: BLOCK_SIZE - len(block)]


def _boosted(
    boost: Boost, boosted_score: Floats, block: Rows, left: Rows, score: Floats, caps: list[_CapCheck], fixed: set[int]
) -> Rows:
    """The block after boosted products from further down replaced its last others, best boosted score first.

    Products enter one by one, as long as the expected DCG, Σ score / log2(rank + 1) (Järvelin & Kekäläinen 2002),
    falls by at most `max_dcg_loss` in total. Rows in `fixed` stay. `boosted_score` is 0 for products without the boost.
    """
    min_dcg = (1 - boost.max_dcg_loss) * _expected_dcg(block, score)
    waiting = sorted((row for row in _without(left, block) if boosted_score[row] > 0), key=lambda r: -boosted_score[r])
    for _ in range(boost.slots - int((boosted_score[block] > 0).sum())):
        leaving = next((row for row in reversed(block) if boosted_score[row] == 0 and row not in fixed), None)
        if leaving is None:
            break
        rest = _without(block, [leaving])
        min_score = (min_dcg - _expected_dcg(rest, score)) / _DISCOUNT[len(rest)]
        entering = next(
            (row for row in waiting if score[row] >= min_score and all(cap.allows([*rest, row]) for cap in caps)), None
        )
        if entering is None:
            break
        block, waiting = [*rest, entering], _without(waiting, [entering])
    return block


def _without(rows: Rows, removed: Rows) -> Rows:
    gone = set(removed)
    return [row for row in rows if row not in gone]


def _expected_dcg(rows: Rows, score: Floats) -> float:
    return float((score[rows] * _DISCOUNT[: len(rows)]).sum())
