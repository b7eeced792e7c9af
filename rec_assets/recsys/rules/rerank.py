"""Rules applied: one customer's scored products in, the order in which they are shown out, with the rules behind it.

Batch and API both come here, so that they can't differ. Scoring, and what is shown where no rule has a say, belong
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rec_assets.recsys.data.product_snapshot import Floats, Longs
from rec_assets.recsys.rules.compiled import CompiledBoost, CompiledRules
from rec_assets.recsys.rules.spec import TEN

_MOST_RATE = 0.95
_DISCOUNT = 1 / np.log2(np.arange(2, TEN + 2))


class ScoredCandidates(NamedTuple):
    """What could be shown to one customer: n products by falling score.

    Attributes:
        product: (n,) positions in the rulebook.
        score: (n,) estimated probability that it is bought, and kept.
        return_rate: (n,) share of what is bought that comes back.
        complement: (n,) how strongly it goes with the customer's newest order (`Candidates.complement`).
        last_age: Days since that order; NaN where there is none.
    """

    product: Longs
    score: Floats
    return_rate: Floats
    complement: Floats
    last_age: float


class RerankedItems(NamedTuple):
    """What is shown, best first.

    Attributes:
        product: (m,) positions.
        place: (m,) each one's place in the offer; −1 of a pinned product that wasn't offered.
        rule: (m,) number of the rule that put it there, −1 where none did.
    """

    product: Longs
    place: Longs
    rule: Longs


def rerank(book: CompiledRules, offer: ScoredCandidates, depth: int, is_barred: Callable[[int], bool]) -> RerankedItems:
    """Apply a rulebook: leave out, weigh, put complements first, cap, favor, pin; in this order.

    Args:
        book: The rules.
        offer: What was scored, without what filters or stock rule out.
        depth: How many places are asked for; the order does not depend on it.
        is_barred: Whether a product that isn't offered may not be pinned either.
    """
    rule = np.full(len(offer.product), -1, np.int64)
    left = _by_worth(book, offer, rule)
    first = _complements(book, offer, left)
    if book.complements is not None:
        rule[first] = book.complements.rule
    left = first + _without(left, first)
    caps = [_Capped(each.group[offer.product].tolist(), each.most) for each in book.caps]
    worths = [each.weight[offer.product] * offer.score for each in book.favors]
    placed, fixed = list[int](), set(first)
    while left and len(placed) < depth + len(book.pins):
        ten = _next_ten(left, caps)
        for favor, worth in zip(book.favors, worths, strict=True):
            before, ten = ten, _give_places(favor, worth, ten, left, offer.score, caps, fixed)
            entered = [each for each in ten if each not in before]
            rule[entered] = favor.rule
            fixed.update(each for each in ten if worth[each] > 0)
        left = _without(left, ten)
        placed += ten
    return _with_pins(book, offer, placed, rule, depth, is_barred, is_all=not left)


def _with_pins(
    book: CompiledRules,
    offer: ScoredCandidates,
    placed: list[int],
    rule: Longs,
    depth: int,
    is_barred: Callable[[int], bool],
    *,
    is_all: bool,
) -> RerankedItems:
    """The places of the offer in the order given, with the pinned products at theirs."""
    rows = [(int(offer.product[each]), each, int(rule[each])) for each in placed]
    pinned = {pin.product for pin in book.pins}
    offered = {int(each): place for place, each in enumerate(offer.product) if int(each) in pinned}
    rows = [row for row in rows if row[0] not in pinned]
    for pin in book.pins:
        place = offered.get(pin.product, -1)
        can_be = book.shown[pin.product] and (place >= 0 or not is_barred(pin.product))
        if can_be and (pin.place <= len(rows) or is_all):  # else it stands further down than anybody looks
            rows.insert(pin.place, (pin.product, place, pin.rule))
    return RerankedItems(*np.array(rows[:depth], np.int64).reshape(-1, 3).T)


def _by_worth(book: CompiledRules, offer: ScoredCandidates, rule: Longs) -> list[int]:
    """Places that may be shown, by what their scores are worth; who rose says by which rule: what helped most."""
    kept = np.flatnonzero(book.shown[offer.product])
    gains = [(number, weight[offer.product[kept]]) for number, weight in book.weights]
    if book.returns is not None:
        number, cost = book.returns
        rate = np.minimum(offer.return_rate[kept], _MOST_RATE)
        # The score is the chance of a purchase that is kept; for each of these, rate / (1 − rate) come back.
        gains.append((number, np.maximum(1 - cost * rate / (1 - rate), 0)))
    if gains and len(kept):
        factors = np.stack([np.asarray(gain, np.float64) for _, gain in gains])
        order = np.argsort(-(offer.score[kept] * factors.prod(axis=0)), kind="stable")
        kept = kept[order]
        helped = (factors / np.maximum(factors.mean(axis=1, keepdims=True), 1e-12)).argmax(axis=0)[order]
        rose = order > np.arange(len(order))
        rule[kept[rose]] = np.array([number for number, _ in gains])[helped[rose]]
    return [int(each) for each in kept]


def _complements(book: CompiledRules, offer: ScoredCandidates, left: list[int]) -> list[int]:
    """Of these places the products that go best with a fresh purchase; none after a stale one."""
    if book.complements is None or not offer.last_age <= book.complements.days:  # NaN: nothing was ever bought
        return []
    found = [each for each in left if offer.complement[each] > 0]
    return sorted(found, key=lambda each: -offer.complement[each])[: book.complements.places]


class _Capped(NamedTuple):
    """Per place of the offer its group, −1 for none, and how many of one group ten places may hold."""

    group: list[int]
    most: int

    def keeps(self, places: list[int]) -> bool:
        """Whether the last of these places may stand with the others."""
        own = self.group[places[-1]]
        return own < 0 or sum(self.group[each] == own for each in places) <= self.most


def _next_ten(left: list[int], caps: list[_Capped]) -> list[int]:
    """The first ten that keep to the caps; where there are too few of these, others fill up."""
    if not caps:
        return left[:TEN]
    ten: list[int] = []
    for each in left:
        if len(ten) == TEN:
            break
        if all(cap.keeps([*ten, each]) for cap in caps):
            ten.append(each)
    return ten + _without(left, ten)[: TEN - len(ten)]


def _give_places(
    favor: CompiledBoost,
    worth: Floats,
    ten: list[int],
    left: list[int],
    score: Floats,
    caps: list[_Capped],
    fixed: set[int],
) -> list[int]:
    """The ten with favored products from further down, the worthiest first, in the places of its last others.

    One by one, as long as the expected DCG, Σ score / log2(place + 1) (Järvelin & Kekäläinen 2002), falls by at most
    `most_loss` in all. What is fixed stays; `worth` is above 0 for the favored.
    """
    least = (1 - favor.most_loss) * _expected(ten, score)
    further = sorted((each for each in _without(left, ten) if worth[each] > 0), key=lambda each: -worth[each])
    for _ in range(favor.places - int((worth[ten] > 0).sum())):
        leaving = next((each for each in reversed(ten) if worth[each] == 0 and each not in fixed), None)
        if leaving is None:
            break
        rest = _without(ten, [leaving])
        needed = (least - _expected(rest, score)) / _DISCOUNT[len(rest)]
        entrant = next(
            (each for each in further if score[each] >= needed and all(cap.keeps([*rest, each]) for cap in caps)), None
        )
        if entrant is None:
            break
        ten, further = [*rest, entrant], _without(further, [entrant])
    return ten


def _without(places: list[int], some: list[int]) -> list[int]:
    gone = set(some)
    return [each for each in places if each not in gone]


def _expected(places: list[int], score: Floats) -> float:
    return float((score[places] * _DISCOUNT[: len(places)]).sum())
