"""What the IO manager reads for an asset, and what it records as its inputs."""

import datetime as dt
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from rec_assets.automation.plan_execution import day_range_tags
from rec_assets.resources.data_versions import FINGERPRINT, MADE_FROM, DayWriter, input_version
from rec_assets.resources.lake import Lake
from rec_assets.resources.lake_io import LakeIOManager
from rec_assets.resources.spark import spark_resource
from rec_assets.settings import Settings

DAYS = dg.DailyPartitionsDefinition("2018-01-01", end_date="2018-01-05")
FIRST, SECOND, BEFORE = dt.date(2018, 1, 1), dt.date(2018, 1, 2), dt.date(2017, 12, 31)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def resources(lake: Lake, tmp_path: Path) -> dict[str, Any]:
    return {
        "lake": lake,
        "io_manager": LakeIOManager(
            root=str(lake.root), disk=str(tmp_path), spark=spark_resource(Settings(home=tmp_path))
        ),
    }


@dg.asset(partitions_def=DAYS)
def sales(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return pd.DataFrame({"day": [context.partition_key]})


@dg.asset
def products(sales: pd.DataFrame) -> pd.DataFrame:
    return sales[["day"]]


@dg.asset(partitions_def=DAYS)
def model() -> pd.DataFrame:
    return pd.DataFrame({"n": [1]})


@dg.asset(partitions_def=DAYS, deps=[model])
def lists(lake: dg.ResourceParam[Lake], sales: pd.DataFrame) -> pd.DataFrame:
    lake.write("model", pd.DataFrame({"n": [2]}), FIRST)  # another run trains at the same time
    return sales[["day"]]


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def counts(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult[Any]:
    writer = DayWriter(context, lake, "counts", [FIRST, SECOND])
    for lines, day in enumerate([FIRST, SECOND], start=1):
        writer.add(day, pd.DataFrame({"n": [lines]}), lines=lines)
    return writer.result(report="of the whole run")


def made_from(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset)
    recorded = event.metadata[MADE_FROM].value
    assert isinstance(recorded, dict)
    return recorded


def test_an_asset_without_days_reads_those_that_exist_and_are_partitions(lake: Lake, resources: dict[str, Any]) -> None:
    for day in (BEFORE, FIRST, SECOND):
        lake.write("sales", pd.DataFrame({"day": [str(day)]}), day)
    result = dg.materialize([products, sales.to_source_asset()], selection=[products], resources=resources)
    assert sorted(lake.table("products").pandas()["day"]) == [str(FIRST), str(SECOND)]
    assert made_from(result, "products")["sales"] == input_version(lake.table("sales"), [FIRST, SECOND])


def test_an_asset_without_days_is_made_in_a_run_of_one_day_too(lake: Lake, resources: dict[str, Any]) -> None:
    assert dg.materialize([sales, products], partition_key=str(SECOND), resources=resources).success
    assert lake.table("products").pandas()["day"].to_list() == [str(SECOND)]


def test_inputs_that_change_during_a_step_are_recorded_as_they_were_before(
    lake: Lake, resources: dict[str, Any]
) -> None:
    result = dg.materialize([sales, model, lists], partition_key=str(FIRST), resources=resources)
    was = lake.at({"model": 1}).table("model")
    assert made_from(result, "lists")["model"] == input_version(was, [FIRST])
    assert lake.table("model").fingerprint([FIRST]) != was.fingerprint([FIRST])


def test_a_run_over_a_range_describes_the_table_once(resources: dict[str, Any]) -> None:
    """Each plan reads the records of all days, so these must be small."""
    result = dg.materialize([counts], tags=day_range_tags(FIRST, SECOND), resources=resources)
    events = {event.partition: event.metadata for event in result.asset_materializations_for_node("counts")}
    first, second = (events[str(day)] for day in (FIRST, SECOND))
    assert (first["lines"].value, second["lines"].value) == (1, 2)
    assert first[FINGERPRINT].value != second[FINGERPRINT].value
    assert not {"report", "preview", "dagster/column_schema"} & first.keys()
    assert {"report", "preview", "dagster/column_schema"} <= second.keys()
