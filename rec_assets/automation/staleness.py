"""Which partitions are stale: made from other inputs, or by other code, than they would be now.

Dagster: its stale status compares data versions too, but it knows no landed files, failed checks or active releases,
and skips windows of 100 and more upstream partitions, such as the lookback.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as CheckStatus
from upath import UPath

from rec_assets.automation.plan import PlannedRun
from rec_assets.resources.data_versions import Materialization, Materializations, input_version, inputs
from rec_assets.resources.lake import Day, Lake, LakeTable, MissingPartition
from rec_assets.resources.releases import Release, Releases
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.sources.feedback import API_FILES, landed_files
from rec_assets.sources.landing import changed_at, event_files, file_fingerprint
from rec_assets.sources.spec import DataSource

ASSETS_USING_MODELS = {"product_snapshot", "hybrid_scores", "similar_products", "serving_index"}
"""Assets made with the active models; their metadata hold the as-of days of the models."""

ASSETS_USING_EXPERIMENTS = {"experiment_report", "serving_index"}
"""Assets that read the experiments file."""

ASSETS_USING_RULES = {"hybrid_scores"}
"""Assets made with the merchandising rules; their metadata hold the version of the rules."""

MAX_CHECK_RECORDS = 100
"""Newest records of a check that are read."""

Partition = tuple[dg.AssetKey, Day]


@dataclass
class StalenessChecker:
    """Compares Dagster's records, the lake, the model registry and the landed files, and caches what it read.

    With `keep`, what an earlier code version made is not stale.

    docs/architecture.md lists the rules.
    """

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    lake: Lake
    releases: Releases
    source: DataSource
    feedback: Path
    experiments: Path | None = None
    rules_version: str = ""
    newest: dt.date | None = None
    keep: bool = False
    serving: ServingFolder | None = None
    materializations: Materializations = field(default_factory=Materializations)

    def __post_init__(self) -> None:
        self.graph = self.definitions.resolve_asset_graph()
        self._recorded: dict[str, Mapping[Day, Materialization]] = {}
        self._tables: dict[str, LakeTable] = {}
        self._failed_runs: dict[dg.AssetKey, set[str]] = {}
        self._active_releases: dict[dt.date, Release | None] = {}
        self._starts: dict[str, float] = {}
        self._damage_by_table: dict[str, dict[dt.date | None, str]] = {}

    def stale_partitions(self, run: PlannedRun) -> dict[Partition, str]:
        """The stale partitions of a planned run, each with the reason.

        The run materializes stale upstream partitions, so partitions downstream of them are stale too.
        """
        selected = self.definitions.resolve_job_def(run.job).asset_layer.selected_asset_keys
        direct = {(key, day): why for key in selected for day in run.days if (why := self.stale_reason(key, day))}
        inherited = {key: "another day of it is stale" for key, _ in direct}
        for key in self.graph.toposorted_asset_keys:
            if key in selected and (parents := self.graph.get(key).parent_keys & inherited.keys()):
                inherited[key] = f"{min(parents).path[-1]} is stale"
        days = {day for _, day in direct}
        return {
            (key, day): direct.get((key, day), why) for key, why in inherited.items() for day in run.days if day in days
        }

    def stale_reason(self, key: dg.AssetKey, day: dt.date | None) -> str:
        """Why one partition is stale, without regard to other stale partitions; "" if it is not."""
        table = key.path[-1]
        if table not in self._recorded:
            self._recorded[table] = self.materializations.of(table, self.instance)  # a query
        latest = self._recorded[table].get(day)
        if latest is None:
            return "never materialized"
        if day not in self._table(table).partitions:
            return "not in the lake"
        if damage := self._damage(key, day):
            return f"damaged: {damage}"
        if changed := self._changed_input(key, day, latest):
            return f"{changed} has changed since"
        code_version = self.graph.get(key).code_version
        if not self.keep and code_version is not None and latest.code_version != code_version:
            return f"made by code version {latest.code_version}, now {code_version}"
        if latest.run_id in self._runs_with_failed_blocking_checks(key):
            return "a blocking check failed, or did not run"
        # Lists of earlier days stay as customers saw them.
        if (
            table in ASSETS_USING_RULES
            and day == self.newest
            and latest.metadata.get("rules_version", "") != self.rules_version
        ):
            return "made with other merchandising rules"
        if table == "release_gate" and day is not None and self._active_release(day) is None:
            return "no release is active, and the limits of the gate may have changed"
        if table in ASSETS_USING_MODELS and day is not None and (release := self._active_release(day)):
            for name, active in release.model_days.items():
                if (made_with := latest.metadata.get(name, active)) != active:
                    return f"made with {name} {made_with}, but version {release.version} is active, with {active}"
        return ""

    def _damage(self, key: dg.AssetKey, day: dt.date | None) -> str:
        """How a partition in the lake, or the published index of the newest day, is damaged; "" if it is not."""
        table = key.path[-1]
        if table not in self._damage_by_table:
            self._damage_by_table[table] = self._table(table).damage()
            is_published = table == "serving_index" and self.newest in self._table(table).partitions
            if is_published and self.serving is not None and (damage := self.serving.damage()):
                self._damage_by_table[table][self.newest] = damage
        return self._damage_by_table[table].get(day, "")

    def _runs_with_failed_blocking_checks(self, key: dg.AssetKey) -> set[str]:
        """Runs in which a blocking check of the asset failed, or was planned and not executed.

        Their materializations don't count. Otherwise the next plan would continue with what a check has stopped.
        """
        if key not in self._failed_runs:
            failed, storage = set(), self.instance.event_log_storage
            for check in self.graph.asset_check_keys:
                if check.asset_key != key or not self.graph.get_check_spec(check).blocking:
                    continue
                results_by_run: dict[str, set[bool]] = {}
                for record in storage.get_asset_check_execution_history(check, limit=MAX_CHECK_RECORDS):
                    # A run has one record of the planned check, and another of its result.
                    results = results_by_run.setdefault(record.run_id, set())
                    if record.status in (CheckStatus.SUCCEEDED, CheckStatus.FAILED):
                        evaluation = record.evaluation
                        only_warns = evaluation is not None and evaluation.severity == dg.AssetCheckSeverity.WARN
                        results.add(record.status == CheckStatus.SUCCEEDED or only_warns)
                failed |= {run for run, results in results_by_run.items() if results != {True}}
            self._failed_runs[key] = failed
        return self._failed_runs[key]

    def _active_release(self, day: dt.date) -> Release | None:
        if day not in self._active_releases:
            self._active_releases[day] = self.releases.active(day)
        return self._active_releases[day]

    def _changed_input(self, key: dg.AssetKey, day: Day, made: Materialization) -> str:
        """What a partition was made from and has changed since; "" if nothing has."""
        files = self._files(key.path[-1], day)
        if files.keys() != made.files.keys():
            return "the list of its files"
        for label, file in files.items():
            if (changed_at(file) or math.inf) <= self._start_of(made.run_id):
                continue  # it may be large, and it has not changed since the run began
            if file_fingerprint(file) != made.files[label]:
                return label
        for name, days in inputs(self.graph, key, day).items():
            was, table = made.made_from.get(name, {}), self._table(name)
            if was.get("fingerprint") != input_version(table, days)["fingerprint"]:
                return self._changed_days(table, days, was.get("version"), day)
        return ""

    def _start_of(self, run_id: str) -> float:
        """Unix time at which a run began; −∞ if Dagster does not know it any more."""
        if run_id not in self._starts:
            record = self.instance.get_run_record_by_id(run_id)
            self._starts[run_id] = (record and record.start_time) or -math.inf
        return self._starts[run_id]

    def _changed_days(self, table: LakeTable, days: list[Day], version: int | None, day: Day) -> str:
        """A table, and the days of it that have changed since a version, if that is still there."""
        try:
            was = self.lake.at({table.name: version}).table(table.name).partitions if version is not None else {}
        except MissingPartition:
            return table.name
        changed = [each for each in days if was.get(each) != table.partitions.get(each)] if was else []
        if changed in ([], [day], [None]):
            return table.name
        return f"{table.name} of {changed[0]}{f' and {len(changed) - 1} more days' if len(changed) > 1 else ''}"

    def _files(self, name: str, day: Day) -> dict[str, UPath]:
        """The files outside the lake that a partition is made from, by their names in its metadata."""
        if name == "raw_purchase_logs":
            return {self.source.label(file): file for file in self.source.all_files(day)}
        if name == "raw_product_catalog":
            catalog = self.source.catalog_file()
            return {self.source.label(catalog): catalog} if catalog else {}
        if name == "raw_feedback_events" and day is not None:
            return event_files(self.source, self.feedback, day)
        if name in API_FILES and day is not None:
            return landed_files(self.feedback, name, day)
        if name in ASSETS_USING_EXPERIMENTS and self.experiments is not None and self.experiments.exists():
            return {self.experiments.name: UPath(self.experiments)}
        return {}

    def _table(self, name: str) -> LakeTable:
        if name not in self._tables:
            self._tables[name] = self.lake.table(name)
        return self._tables[name]
