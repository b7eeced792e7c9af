"""What `check-source` reports about event logs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import pandas as pd

from rec_assets.recsys.data.distinct import strip_text
from rec_assets.sources.check_result import SourceCheck, format_share, pluralize, to_inline_yaml
from rec_assets.sources.errors import SourceError
from rec_assets.sources.reader import read_day, read_export
from rec_assets.sources.sample import SourceSample
from rec_assets.sources.spec import DataSource

SAMPLE_DAYS = 3
"""Days of an event log to read, evenly spaced. Logs of events are many times as large as those of purchases."""

_MAX_NAMES = 8


def report_events(sample: SourceSample, check: SourceCheck) -> None:
    """Report on the events of some days: types, shoppers, products, times."""
    for source in sample.source.event_sources:
        try:
            _report_log(source, sample, check)
        except SourceError as error:
            check.errors.append(f"events: {error}")


def _report_log(source: DataSource, sample: SourceSample, check: SourceCheck) -> None:
    log, path = source.events[0], source.expand(source.purchases.path)
    if not source.files():
        check.warnings.append(f"no event file matches {path}: land files, or fix `path` under `events`")
        return
    check.add("Events", path)
    raw = _read_sample(source, sample)
    lines = raw[raw["excluded_by"] == ""]
    if lines.empty:
        check.warnings.append(f"the event files of {path} have no lines in the sample")
        return
    names = strip_text(lines["category"]) if log.columns.type else pd.Series(str(log.type), lines.index)
    types = names.map(log.type_of_name) if log.types else names
    counts = names[types.isna()].value_counts()
    check.add("Events", f"{pluralize(len(lines), 'event')} in the sample")
    for kind, number in types.value_counts().items():
        check.add("Events", f"{kind}: {number:,}")
    if len(counts):
        shown = ", ".join(f"{name!r} ({number:,})" for name, number in counts.head(_MAX_NAMES).items())
        more = f" and {len(counts) - _MAX_NAMES} more names" if len(counts) > _MAX_NAMES else ""
        check.add("Events", f"ignored, because `types` does not name them: {shown}{more}")
    unused = [name for name in log.type_of_name if name not in set(names)]
    if types.notna().sum() == 0:
        check.errors.append(
            f"column {log.columns.type!r} has none of the names in `types` "
            f"({', '.join(map(repr, log.type_of_name))}): it has {to_inline_yaml([*counts.index[:_MAX_NAMES]])}"
        )
        return
    if unused and source.is_daily:
        check.add("Events", f"not in the sample: {', '.join(map(repr, unused))}")
    known = lines[types.notna()]
    has_customer = strip_text(known["customer_id"]) != "" if log.columns.customer_id else pd.Series(False, known.index)
    check.add("Events", f"with a customer: {format_share(int(has_customer.sum()), len(known))}")
    if not has_customer.any():
        check.warnings.append("no event has a customer, so models can't learn from events: check `customer_id`")
    products = {*sample.products, *sample.catalog["product_id"], *sample.catalog["variant_of"].dropna()}
    is_known = known["product_id"].isin(products)
    check.add("Events", f"of known products: {format_share(int(is_known.sum()), len(known))}")
    if is_known.mean() < 0.5:
        example = known.loc[~is_known, "product_id"].dropna().head(1).to_list()
        check.warnings.append(
            f"{format_share(int((~is_known).sum()), len(known))} of the events are of products that neither the log "
            f"nor the catalog has, such as {example}: check the column for `product_id`"
        )
    if (without := int(known["event_time"].isna().sum())) > 0.01 * len(known):
        check.warnings.append(
            f"{format_share(without, len(known))} of the events have no readable time: check `time_format` of `events`"
        )


def _read_sample(source: DataSource, sample: SourceSample) -> pd.DataFrame:
    if not source.is_daily:
        tables = read_export(source).values()
        return pd.concat([table.to_pandas() for table in tables], ignore_index=True)
    landed = source.landed_days()
    days = [day for day in sample.by_day if day in set(landed)] or landed
    return pd.concat([read_day(source, day, landed[-1]).to_pandas() for day in _evenly_spaced(days)], ignore_index=True)


def _evenly_spaced(days: Sequence[dt.date]) -> list[dt.date]:
    last = len(days) - 1
    return [days[at] for at in sorted({round(n * last / (SAMPLE_DAYS - 1)) for n in range(SAMPLE_DAYS)})]
