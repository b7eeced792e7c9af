"""Two rankings in one list, so that the same shoppers judge both (team draft: Radlinski, Kurup & Joachims 2008)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T")


def team_draft(
    rankings: Sequence[Sequence[T]], k: int, key: Callable[[T], Hashable], coin: Callable[[], int]
) -> list[tuple[T, int]]:
    """The best of both, k at most, each with the number of the ranking that put it there.

    In each round both put in the best of theirs that isn't there yet; the coin says who begins. Where one has nothing
    left, the other goes on.

    Args:
        rankings: Two, best first.
        k: Length of the list.
        key: What tells entries apart.
        coin: 0 or 1, by chance.
    """
    chosen: list[tuple[T, int]] = []
    taken: set[Hashable] = set()
    left = [iter(each) for each in rankings]
    done = [False, False]
    while len(chosen) < k and not all(done):
        first = coin()
        for team in (first, 1 - first):
            entry = next((each for each in left[team] if key(each) not in taken), None)
            done[team] = done[team] or entry is None
            if entry is not None and len(chosen) < k:
                chosen.append((entry, team))
                taken.add(key(entry))
    return chosen
