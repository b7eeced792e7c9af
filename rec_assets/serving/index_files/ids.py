"""Sorted ids in one buffer. A numpy array of strings would be as wide as its longest id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt


class Ids(Sequence[bytes]):
    """n sorted ids in UTF-8.

    Attributes:
        text: The concatenated ids.
        ends: (n + 1,) 0, and the end of each id in `text`, which is the start of the next one.
    """

    def __init__(self, text: bytes, ends: npt.NDArray[np.int64]) -> None:
        self.text, self.ends = text, ends
        self._ends = ends.data  # a memoryview returns Python integers, several times as fast

    @classmethod
    def from_sorted(cls, ids: Iterable[bytes]) -> Ids:
        """From sorted ids."""
        ids = list(ids)
        return cls(b"".join(ids), np.cumsum([0, *map(len, ids)], dtype=np.int64))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, position: int) -> bytes: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[bytes]: ...
    def __getitem__(self, position: Any) -> Any:
        if isinstance(position, slice):
            return [self[each] for each in range(*position.indices(len(self)))]
        if not 0 <= position < len(self):
            raise IndexError(f"{position} of {len(self)} ids")
        return self.text[self._ends[position] : self._ends[position + 1]]

    def find(self, key: bytes) -> int | None:
        """Position of an id; None if it is missing."""
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
        """Read what `save` wrote.

        Raises:
            ValueError: the two files don't fit together.
        """
        text = np.load(folder / f"{name}.npy")
        ends = np.load(folder / f"{name}_ends.npy")
        if text.dtype != np.uint8 or ends.dtype != np.int64 or not len(ends) or ends[0] or ends[-1] != len(text):
            raise ValueError(f"{name}.npy and {name}_ends.npy don't fit together")
        return cls(text.tobytes(), ends)
