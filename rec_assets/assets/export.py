"""Asset group `export`: the lists in a SQL table of the shop. It is there if REC_EXPORT__URL is set."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd
import pyarrow as pa

from rec_assets.partitions import DayPartitions, as_of_day
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.ranking.shown_lists import shown_lists
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows, as_parquet_files
from rec_assets.resources.sql_table import ExportError, replace_lists
from rec_assets.settings import Settings

GROUP = "export"
OWNERS = ["team:recommendations"]


def export_assets(settings: Settings, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The asset of the group; none without a database."""
    url = settings.export.url
    if url is None:
        return []

    @dg.asset(group_name=GROUP, owners=OWNERS, kinds={"sql"}, partitions_def=days.partitions, code_version="1")
    def recommendations_export(
        context: dg.AssetExecutionContext, hybrid_scores: LazyArrowRows, customer_histories: LazyArrowRows,
        product_snapshot: ProductSnapshot,
    ) -> pd.DataFrame:  # fmt: skip
        """The shown lists of the day, one row for each customer, in a SQL table: all rows are replaced, or none."""
        day, table = as_of_day(context), settings.export.table
        rows = shown_lists(hybrid_scores, customer_histories, product_snapshot, settings.export.size)
        with as_parquet_files(rows, settings.staging) as files:

            def parts() -> Iterator[pa.Table]:
                return (pa.Table.from_batches([batch]) for file in files for batch in file.iter_batches())

            try:
                written = replace_lists(url.get_secret_value(), table, day, parts())
            except ExportError as error:
                raise dg.Failure(str(error)) from None
        context.add_output_metadata({"table": table, "customers": written})
        return pd.DataFrame([{"table": table, "customers": written}])

    return [recommendations_export]
