"""The file of forgotten customers: whose rows readers drop, and whose data is not deleted everywhere yet."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from rec_assets.files import write_atomically
from rec_assets.recsys.data.forgetting import Forgotten, is_forgotten


class ForgottenFile(BaseModel, frozen=True):
    """Content of the file: all forgotten customers, and `pending`: those whose data may still exist somewhere."""

    forgotten: Forgotten = {}
    pending: Forgotten = {}

    @classmethod
    def read(cls, file: Path) -> ForgottenFile:
        """Read the file. Without a file, nobody is forgotten."""
        return cls.model_validate_json(file.read_bytes()) if file.exists() else cls()

    def write(self, file: Path) -> None:
        """Replace the file. Only its owner and group may read it."""
        write_atomically(file, self.model_dump_json(indent=1), private=True)

    def without(self, rows: pa.Table, day: dt.date) -> pa.Table:
        """Rows of a day (with `customer_id`) without those of forgotten customers."""
        matches = is_forgotten(rows["customer_id"].to_pandas(), day, self.forgotten)
        return rows.filter(pc.invert(pa.array(matches))) if matches.any() else rows
