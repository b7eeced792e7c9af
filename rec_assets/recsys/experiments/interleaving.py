"""Two rankings in one list, so that the same shoppers judge both (team draft: Radlinski, Kurup & Joachims 2008)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Drafted(NamedTuple, Generic[T]):
    """An entry, the number of the ranking that put it in, and how likely it was to stand there.

    `propensity` is the chance given what stands above and who put that in.
    """

    entry: T
    team: int
    propensity: float


def team_draft(
    rankings: Sequence[Sequence[T]], k: int, key: Callable[[T], Hashable], coin: Callable[[], int]
) -> list[Drafted[T]]:
    """The best of both, k at most.

    In each round both put in the best of theirs that isn't there yet; the coin says who begins. Where one has nothing
    left, the other goes on.

    Args:
        rankings: Two, best first.
        k: Length of the list.
        key: What tells entries apart.
        coin: 0 or 1, by chance.
    """
    chosen: list[Drafted[T]] = []
    taken: set[Hashable] = set()

    def put_in(team: int, propensity: float) -> None:
        entry = next((each for each in rankings[team] if key(each) not in taken), None)
        if entry is not None and len(chosen) < k:
            chosen.append(Drafted(entry, team, propensity))
            taken.add(key(entry))

    while len(chosen) < k:
        first, best = (
            coin(),
            [next((key(each) for each in ranking if key(each) not in taken), None) for ranking in rankings],
        )
        if best == [None, None]:
            break
        # The second has no choice, nor has who begins where both would put in the same, or only one has any left.
        put_in(first, 1.0 if best[0] == best[1] or None in best else 0.5)
        put_in(1 - first, 1.0)
    return chosen
