"""Dagster's event log with batches: the records are the same as those of its own storage."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rec_assets.automation.instance import open_instance
from rec_assets.resources.event_log import BatchedEventLog
from rec_assets.settings import Settings

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-21")


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def sales(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    for day in context.partition_keys:
        context.add_asset_metadata({"day": day}, partition_key=day)
    return dg.MaterializeResult(data_version=dg.DataVersion("v1"))


@dg.asset_check(asset=sales)
def sales_exist() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


def records(home: Path, monkeypatch: pytest.MonkeyPatch, *, batch: int) -> tuple[Any, ...]:
    """What Dagster tells of a run over all days."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", str(batch))
    instance = open_instance(Settings(home=home))
    assert type(instance.event_log_storage) is BatchedEventLog
    tags = {"dagster/asset_partition_range_start": "2024-01-01", "dagster/asset_partition_range_end": "2024-01-20"}
    definitions = dg.Definitions([sales], asset_checks=[sales_exist], jobs=[dg.define_asset_job("sell", "*")])
    result = definitions.resolve_job_def("sell").execute_in_process(instance=instance, tags=tags)
    assert result.success
    key = sales.key
    newest = instance.get_latest_materialization_event(key)
    assert newest is not None and newest.asset_materialization is not None
    run_events = Counter(event.event_type_value for event in result.all_events)
    logged = (entry.get_dagster_event() for entry in instance.all_logs(result.run_id) if entry.is_dagster_event)
    stored = Counter(event.event_type_value for event in logged)
    found = instance.fetch_materializations(dg.AssetRecordsFilter(key), limit=100, ascending=True).records
    return (
        sorted(instance.get_materialized_partitions(key)), newest.asset_materialization.partition,
        [(each.partition_key, each.asset_materialization.metadata["day"].value) for each in found],  # type: ignore[union-attr]
        {name: count for name, count in stored.items() if "ASSET" in name}, run_events["ASSET_MATERIALIZATION"],
        (instance.get_latest_materialization_event(key).run_id == result.run_id),  # type: ignore[union-attr]
        instance.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION).keys(),
    )  # fmt: skip


def test_batches_leave_the_same_records_as_single_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = records(tmp_path / "single", monkeypatch, batch=0)
    assert len(one_by_one[0]) == one_by_one[3]["ASSET_MATERIALIZATION"] == 20
    for batch in (7, 2000):
        assert records(tmp_path / str(batch), monkeypatch, batch=batch) == one_by_one


def test_a_batch_is_one_transaction_for_each_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Counter[str]()
    for name in ("store_event", "store_event_batch"):
        plain = getattr(BatchedEventLog, name)

        def counted(self: BatchedEventLog, events: Any, name: str = name, plain: Any = plain) -> None:
            calls[name] += 1
            plain(self, events)

        monkeypatch.setattr(BatchedEventLog, name, counted)
    records(tmp_path, monkeypatch, batch=2000)
    assert calls["store_event_batch"] == 2 and calls["store_event"] < 40  # planned events, and materializations


def test_records_move_with_their_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = records(tmp_path / "old", monkeypatch, batch=2000)
    shutil.move(tmp_path / "old", tmp_path / "new")
    instance = open_instance(Settings(home=tmp_path / "new"))
    assert sorted(instance.get_materialized_partitions(sales.key)) == before[0]
