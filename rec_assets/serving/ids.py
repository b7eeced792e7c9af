"""Sorted ids, each as long as it is: one long id must not widen all others, as in numpy's arrays of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt


class Ids(Sequence[bytes]):
    """n ids in UTF-8, sorted.

    Attributes:
        text: All of them, one after another.
        ends: (n + 1,) where each begins in `text`, and the end of the last.
    """

    def __init__(self, text: bytes, ends: npt.NDArray[np.int64]) -> None:
        self.text, self.ends = text, ends
        self._ends = ends.data  # gives Python's numbers, several times as fast

    @classmethod
    def of(cls, ids: Iterable[bytes]) -> Ids:
        """From ids in order."""
        ids = list(ids)
        return cls(b"".join(ids), np.append(0, np.cumsum([len(each) for each in ids], dtype=np.int64)).astype(np.int64))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[bytes]: ...
    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(f"{place} of {len(self)} ids")
        return self.text[self._ends[place] : self._ends[place + 1]]

    def find(self, key: bytes) -> int | None:
        """Position of an id; None where it is not there."""
        text, ends, low, high = self.text, self._ends, 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if text[ends[middle] : ends[middle + 1]] < key:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self[low] == key else None

    def save(self, folder: Path, name: str) -> None:
        """Write `name`.npy and `name`_ends.npy."""
        np.save(folder / f"{name}.npy", np.frombuffer(self.text, np.uint8))
        np.save(folder / f"{name}_ends.npy", self.ends)

    @classmethod
    def load(cls, folder: Path, name: str) -> Ids:
        """Read what `save` wrote, or an array of text of one width, as earlier versions wrote it.

        Raises:
            ValueError: the two files don't fit together.
        """
        text = np.load(folder / f"{name}.npy")
        if text.dtype.kind == "S":
            return cls.of(text.tolist())
        ends = np.load(folder / f"{name}_ends.npy")
        if text.dtype != np.uint8 or ends.dtype != np.int64 or not len(ends) or ends[0] or ends[-1] != len(text):
            raise ValueError(f"{name}.npy and {name}_ends.npy don't fit together")
        return cls(text.tobytes(), ends)
