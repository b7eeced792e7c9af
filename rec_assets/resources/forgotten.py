"""The file that says whom to forget: what reading leaves out from then on, and what is still to be rewritten."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from rec_assets.files import write_whole
from rec_assets.recsys.data.forgetting import Forgotten, is_forgotten


@dataclass(frozen=True)
class ForgottenFile:
    """What it says.

    Attributes:
        forgotten: Everybody.
        pending: Those of whom something may still be kept.
    """

    forgotten: Forgotten
    pending: Forgotten

    @classmethod
    def read(cls, file: Path) -> ForgottenFile:
        """Nobody, where there is no file."""
        if not file.exists():
            return cls({}, {})
        found = json.loads(file.read_text())
        return cls(
            *({digest: dt.date.fromisoformat(until) for digest, until in found[part].items()} for part in _PARTS)
        )

    def write(self, file: Path) -> None:
        """Replace it, readable for its owner and group only."""
        parts = {part: {digest: str(until) for digest, until in getattr(self, part).items()} for part in _PARTS}
        write_whole(file, json.dumps(parts, indent=1), private=True)

    def without(self, rows: pa.Table, day: dt.date) -> pa.Table:
        """Rows of a day (with `customer_id`) but those of the forgotten."""
        theirs = is_forgotten(rows["customer_id"].to_pandas(), day, self.forgotten)
        return rows.filter(pc.invert(pa.array(theirs))) if theirs.any() else rows


_PARTS = ("forgotten", "pending")
