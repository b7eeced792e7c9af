"""Team-draft interleaving: mix two rankings, so that the same shoppers compare both (Radlinski et al. 2008)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class DraftedItem(NamedTuple, Generic[T]):
    """An item of an interleaved list.

    Attributes:
        team: Number of the ranking that added it: 0 or 1.
        propensity: Probability that the item is at its rank, given the items above it and their teams.
    """

    item: T
    team: int
    propensity: float


def team_draft(
    rankings: Sequence[Sequence[T]], k: int, key: Callable[[T], Hashable], coin: Callable[[], int]
) -> list[DraftedItem[T]]:
    """Interleave two rankings into a list of at most `k` items.

    In each round, each ranking adds its best item that is not in the list yet. The coin, 0 or 1 at random, decides
    which ranking adds first. When one ranking is empty, the other one continues. `key` identifies an item.
    """
    drafted: list[DraftedItem[T]] = []
    taken: set[Hashable] = set()

    def add_best(team: int, propensity: float) -> None:
        item = next((item for item in rankings[team] if key(item) not in taken), None)
        if item is not None and len(drafted) < k:
            drafted.append(DraftedItem(item, team, propensity))
            taken.add(key(item))

    while len(drafted) < k:
        first = coin()
        best = [next((key(item) for item in ranking if key(item) not in taken), None) for ranking in rankings]
        if best == [None, None]:
            break
        # The coin makes no difference if both would add the same item, or if only one has items left. The second
        # ranking of the round has no choice.
        add_best(first, 1.0 if best[0] == best[1] or None in best else 0.5)
        add_best(1 - first, 1.0)
    return drafted
