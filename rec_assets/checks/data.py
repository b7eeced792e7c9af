"""Checks on the groups `ingestion` and `interactions`: are the lines complete, unique and plausible?"""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import dagster as dg
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc
import pyarrow.dataset as ds

from rec_assets.checks.days import checked_days, newest_day
from rec_assets.recsys.data.cleaning import RETURN_SUFFIX
from rec_assets.recsys.events import MONEY
from rec_assets.resources.lake import Lake, LakeTable
from rec_assets.sources.rhythm import LEARNED_DAYS, punctuality
from rec_assets.sources.spec import DataSource

VOLUME_WEEKS = 4
VOLUME_RANGE = (0.4, 2.5)
MAX_REJECTED_SHARE = 0.25
LINES_PER_PASS = 50_000_000
"""`lines_are_unique` needs eight bytes of memory per line of a pass; it reads more lines in several passes."""


def data_checks(source: DataSource) -> list[dg.AssetChecksDefinition]:
    """The checks of both groups."""

    @dg.asset_check(asset="raw_purchase_logs", description="The newest landed day is in the lake.")
    def raw_is_fresh(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        newest_landed = max(source.landed_days(), default=None) if source.is_daily else source.last_day
        newest = max(lake.table("raw_purchase_logs").days, default=None)
        return dg.AssetCheckResult(
            passed=newest is not None and (newest_landed is None or newest >= newest_landed),
            severity=dg.AssetCheckSeverity.WARN,
            description=f"newest day landed: {newest_landed}; newest day ingested: {newest}",
        )

    @dg.asset_check(
        asset="raw_purchase_logs",
        description="All days have landed that should have, by the weekdays on which earlier days landed, and by how "
        "long after the day.",
    )  # fmt: skip
    def purchases_land_on_time() -> dg.AssetCheckResult:
        if not source.is_daily:
            return dg.AssetCheckResult(passed=True, description="an export has no days that land")
        found = punctuality(source, dt.datetime.now(dt.timezone.utc))
        if found is None:
            return dg.AssetCheckResult(
                passed=True, description=f"less than {LEARNED_DAYS} days have landed, which are too few to know"
            )
        metadata: dict[str, Any] = {"overdue_days": len(found.overdue)}
        if found.next_due:
            metadata["dagster/fresh_until_timestamp"] = dg.MetadataValue.timestamp(found.next_due)
        return dg.AssetCheckResult(
            passed=not found.overdue,
            severity=dg.AssetCheckSeverity.ERROR if found.is_silent else dg.AssetCheckSeverity.WARN,
            description=found.summary,
            metadata=metadata,
        )

    @dg.asset_check(asset="raw_purchase_logs", description="The number of lines is usual for the weekday.")
    def raw_volume_is_usual(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        day = newest_day(context, lake)
        table = lake.table("raw_purchase_logs")
        rows = [table.rows([day - dt.timedelta(weeks=week)]) for week in range(VOLUME_WEEKS + 1)]
        before = [count for count in rows[1:] if count]
        usual = float(np.median(before)) if before else None
        ratio = rows[0] / usual if usual else None
        return dg.AssetCheckResult(
            passed=ratio is None or VOLUME_RANGE[0] <= ratio <= VOLUME_RANGE[1],
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{day}: {rows[0]} lines; median of this weekday in the {VOLUME_WEEKS} weeks before: {usual}",
        )

    @dg.asset_check(
        asset="cleaned_interactions", blocking=True, additional_deps=["rejected_purchases"],
        description="On every day: raw lines = cleaned order lines + rejected lines.",
    )  # fmt: skip
    def no_line_is_lost(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        raw, cleaned, rejected = map(lake.table, ("raw_purchase_logs", "cleaned_interactions", "rejected_purchases"))
        days = checked_days(context, lake)
        counts = pd.DataFrame([[table.rows([day]) for table in (raw, cleaned, rejected)] for day in days])
        counts[1] -= [_rows_not_in_log(cleaned, day) for day in days]
        lost = counts[0] - counts[1] - counts[2]
        wrong = [str(day) for day, missing in zip(days, lost, strict=True) if missing]
        return dg.AssetCheckResult(
            passed=not wrong,
            description=f"raw {counts[0].sum()} = cleaned {counts[1].sum()} + rejected {counts[2].sum()}"
            + (f"; does not hold on {', '.join(wrong[:5])}" if wrong else ""),
            metadata={"raw": int(counts[0].sum()), "cleaned": int(counts[1].sum()), "rejected": int(counts[2].sum())},
        )

    @dg.asset_check(asset="cleaned_interactions", blocking=True, description="No line occurs twice.")
    def lines_are_unique(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        days = checked_days(context, lake)
        cleaned = lake.table("cleaned_interactions")
        lines = cleaned.rows(days)
        repeated = _repeated_lines(cleaned, days, passes=-(-lines // LINES_PER_PASS))
        return dg.AssetCheckResult(passed=repeated == 0, description=f"{lines} lines, {repeated} repeated")

    @dg.asset_check(
        asset="rejected_purchases", description=f"At most {MAX_REJECTED_SHARE:.0%} of the lines are rejected."
    )
    def few_lines_are_rejected(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> dg.AssetCheckResult:
        days = checked_days(context, lake)
        raw, rejected = (lake.table(name).rows(days) for name in ("raw_purchase_logs", "rejected_purchases"))
        share = rejected / raw if raw else 0.0
        return dg.AssetCheckResult(
            passed=share <= MAX_REJECTED_SHARE,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{share:.2%} of {raw} lines rejected",
            metadata={"share": share},
        )

    @dg.asset_check(asset="products", blocking=True, description="The table has one row per product.")
    def products_are_unique(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        products = lake.table("products").pandas(columns=["product_id", "text"])
        repeated = int(products["product_id"].duplicated().sum())
        return dg.AssetCheckResult(
            passed=repeated == 0 and len(products) > 0,
            description=f"{len(products)} products, {repeated} repeated",
            metadata={"without_text": int(products["text"].isna().sum())},
        )

    return [raw_is_fresh, purchases_land_on_time, raw_volume_is_usual, no_line_is_lost, lines_are_unique,
            few_lines_are_rejected, products_are_unique]  # fmt: skip


def _repeated_lines(cleaned: LakeTable, days: list[dt.date], passes: int) -> int:
    """Lines with an earlier id. A pass hashes its part of the ids to 64 bits, then compares ids with equal hashes."""
    repeated = 0
    for number in range(passes):
        hashes_of_batches = (_hashes(ids) for ids in _ids(cleaned, days))
        parts = (part[part % passes == number] for part in hashes_of_batches)
        hashes = np.concatenate([np.zeros(0, np.uint64), *parts])
        hashes.sort()
        shared = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        if len(shared):
            candidates = [ids[np.isin(_hashes(ids), shared)] for ids in _ids(cleaned, days)]
            repeated += int(pd.Index(np.concatenate(candidates)).duplicated().sum())
    return repeated


def _ids(cleaned: LakeTable, days: list[dt.date]) -> Iterator[npt.NDArray[np.object_]]:
    for batch in cleaned.batches(days, ["line_id"]):
        yield batch["line_id"].to_numpy(zero_copy_only=False)


def _hashes(ids: npt.NDArray[np.object_]) -> npt.NDArray[np.uint64]:
    return pd.util.hash_array(ids, categorize=False)


def _rows_not_in_log(cleaned: LakeTable, day: dt.date) -> int:
    """Rows that are no lines of the log: clicks, carts, and the return rows that cleaning adds to purchase lines."""
    not_in_log = ~ds.field("event").isin(MONEY) | pc.ends_with(ds.field("line_id"), RETURN_SUFFIX)
    return cleaned.read([day], columns=["event"], where=not_in_log).num_rows
