"""The sample of a source that `check-source` looks at."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from rec_assets.sources.spec import Source
from rec_assets.sources.times import NO_VALUE
from rec_assets.sources.values import stripped

_RAW_LINES, _RAW_BLOCKS = 50_000, 50
"""Of more lines than this, so many blocks are looked at as they stand in the file: blocks, as orders span lines."""


@dataclass(frozen=True)
class SourceSample:
    """What was read of a source: raw lines by day, and its catalog."""

    source: Source
    by_day: dict[dt.date, pd.DataFrame]
    catalog: pd.DataFrame

    @cached_property
    def lines(self) -> pd.DataFrame:
        """Lines of all days."""
        return pd.concat(self.by_day.values(), ignore_index=True)

    @cached_property
    def counting(self) -> pd.DataFrame:
        """Lines that neither the source nor its catalog leaves out."""
        listed = self.catalog["product_id"][self.catalog["excluded"].astype(bool)]
        return self.lines[(self.lines["excluded_by"] == "") & ~self.lines["product_id"].isin(listed)]

    @cached_property
    def products(self) -> set[str]:
        """Products of the lines."""
        return set(self.lines["product_id"].dropna()) - {""}

    @cached_property
    def written(self) -> pd.DataFrame:
        """Lines as they stand in the file, stripped text by column; of many lines a part. Their index is `lines`'."""
        chosen = self.lines
        if len(chosen) > _RAW_LINES:
            size = _RAW_LINES // _RAW_BLOCKS
            starts = range(0, len(chosen), len(chosen) // _RAW_BLOCKS + 1)
            chosen = pd.concat([chosen.iloc[start : start + size] for start in starts])
        frame = pd.DataFrame([json.loads(line) for line in chosen["line"]], index=chosen.index, dtype=object)
        return frame.apply(stripped)

    @cached_property
    def days(self) -> pd.Series | None:
        """The day in the name of each line's file, as naive midnights; None for an export."""
        if not self.source.is_daily:
            return None
        return pd.Series(
            [pd.Timestamp(day) for day, lines in self.by_day.items() for _ in range(len(lines))], dtype="datetime64[ns]"
        )

    def example(self, column: str) -> str | None:
        """The first value of a column that is filled, as it stands in the file."""
        if column not in self.written:
            return None
        filled = self.written.index[~self.written[column].isin(NO_VALUE)]
        return str(json.loads(str(self.lines.at[filled[0], "line"]))[column]) if len(filled) else None
