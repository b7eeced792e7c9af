"""The sample of a data source that `check-source` reads."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from rec_assets.recsys.data.distinct import strip_text
from rec_assets.sources.spec import DataSource
from rec_assets.sources.times import NO_VALUE

_MAX_VALUE_LINES, _VALUE_BLOCKS = 50_000, 50
"""Maximum lines of `file_values`, and the blocks they come in: the lines of an order are next to each other."""


@dataclass(frozen=True)
class SourceSample:
    """Raw lines by day (`raw_lines.RAW_SCHEMA`) and the catalog (CATALOG_SCHEMA)."""

    source: DataSource
    by_day: dict[dt.date, pd.DataFrame]
    catalog: pd.DataFrame

    @cached_property
    def lines(self) -> pd.DataFrame:
        """Raw lines of all days."""
        return pd.concat(self.by_day.values(), ignore_index=True)

    @cached_property
    def included(self) -> pd.DataFrame:
        """Lines that neither the data source nor its catalog excludes."""
        excluded = self.catalog["product_id"][self.catalog["excluded"].astype(bool)]
        return self.lines[(self.lines["excluded_by"] == "") & ~self.lines["product_id"].isin(excluded)]

    @cached_property
    def products(self) -> set[str]:
        """Product ids of the lines."""
        return set(self.lines["product_id"].dropna()) - {""}

    @cached_property
    def file_values(self) -> pd.DataFrame:
        """Stripped values by the file's columns; index as in `lines`. Of many lines, it has a part."""
        chosen = self.lines
        if len(chosen) > _MAX_VALUE_LINES:
            size = _MAX_VALUE_LINES // _VALUE_BLOCKS
            starts = range(0, len(chosen), len(chosen) // _VALUE_BLOCKS + 1)
            chosen = pd.concat([chosen.iloc[start : start + size] for start in starts])
        frame = pd.DataFrame([json.loads(line) for line in chosen["line"]], index=chosen.index, dtype=object)
        return frame.apply(strip_text)

    @cached_property
    def days(self) -> pd.Series | None:
        """The day in the name of each line's file, as naive midnights; None for an export."""
        if not self.source.is_daily:
            return None
        return pd.Series(
            [pd.Timestamp(day) for day, lines in self.by_day.items() for _ in range(len(lines))], dtype="datetime64[ns]"
        )

    def example(self, column: str) -> str | None:
        """The first value of a column that is not empty, as in the file."""
        if column not in self.file_values:
            return None
        filled = self.file_values.index[~self.file_values[column].isin(NO_VALUE)]
        return str(json.loads(str(self.lines.at[filled[0], "line"]))[column]) if len(filled) else None
