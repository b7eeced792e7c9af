"""The file of forgotten customers: whose rows readers drop, and whose data is not deleted everywhere yet."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from rec_assets.files import write_atomically
from rec_assets.recsys.data.forgetting import Forgotten, is_forgotten


@dataclass(frozen=True)
class ForgottenFile:
    """Content of the file.

    Attributes:
        forgotten: All forgotten customers.
        pending: Those whose data may still exist somewhere.
    """

    forgotten: Forgotten
    pending: Forgotten

    @classmethod
    def read(cls, file: Path) -> ForgottenFile:
        """Read the file. Without a file, nobody is forgotten."""
        if not file.exists():
            return cls({}, {})
        content = json.loads(file.read_text())
        return cls(
            *({digest: dt.date.fromisoformat(until) for digest, until in content[part].items()} for part in _PARTS)
        )

    def write(self, file: Path) -> None:
        """Replace the file. Only its owner and group may read it."""
        parts = {part: {digest: str(until) for digest, until in getattr(self, part).items()} for part in _PARTS}
        write_atomically(file, json.dumps(parts, indent=1), private=True)

    def without(self, rows: pa.Table, day: dt.date) -> pa.Table:
        """Rows of a day (with `customer_id`) without those of forgotten customers."""
        matches = is_forgotten(rows["customer_id"].to_pandas(), day, self.forgotten)
        return rows.filter(pc.invert(pa.array(matches))) if matches.any() else rows


_PARTS = ("forgotten", "pending")
