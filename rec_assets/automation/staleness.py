"""Which partitions are stale: materialized before one of their inputs changed.

Dagster: its stale status follows data versions only. It knows no landed files, failed checks or active releases, and
skips windows of 100 and more upstream partitions, such as the lookback.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.definitions.data_version import CODE_VERSION_TAG
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as CheckStatus

from rec_assets.automation.plan import PlannedRun
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import AS_OF_NAMES, Release, Releases
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.sources.feedback import API_FILES, landed_file
from rec_assets.sources.landing import modified_at
from rec_assets.sources.spec import DataSource

ASSETS_USING_MODELS = {"candidates", "hybrid_scores", "similar_products", "serving_index"}
"""Assets made with the active models; their metadata hold the as-of days of the models."""

ASSETS_USING_EXPERIMENTS = {"experiment_report", "serving_index"}
"""Assets that read the experiments file."""

ASSETS_USING_RULES = {"hybrid_scores"}
"""Assets made with the merchandising rules; their metadata hold the version of the rules."""

MAX_CHECK_RECORDS = 100
"""Newest records of a check that are read."""

Partition = tuple[dg.AssetKey, dt.date | None]


@dataclass(frozen=True)
class _Materialization:
    """A materialization: its time, its run, and the code, models (as-of days) and rules that made it."""

    at: float
    run_id: str
    code_version: str | None
    models: dict[str, str]
    rules_version: str

    @classmethod
    def from_record(cls, record: dg.EventLogRecord) -> _Materialization:
        event = record.asset_materialization
        metadata, tags = (event.metadata, event.tags or {}) if event else ({}, {})
        models = {name: str(metadata[name].value) for name in AS_OF_NAMES.values() if name in metadata}
        rules_version = str(metadata["rules_version"].value) if "rules_version" in metadata else ""
        return cls(record.timestamp, record.run_id, tags.get(CODE_VERSION_TAG), models, rules_version)


@dataclass
class StalenessChecker:
    """Compares Dagster's records, the lake, the model registry and the landed files, and caches what it read.

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
    serving: ServingFolder | None = None

    def __post_init__(self) -> None:
        self.graph = self.definitions.resolve_asset_graph()
        self._materializations: dict[dg.AssetKey, dict[dt.date | None, _Materialization]] = {}
        self._failed_runs: dict[dg.AssetKey, set[str]] = {}
        self._active_releases: dict[dt.date, Release | None] = {}
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
        latest = self._latest_materializations(key).get(day)
        if latest is None:
            return "never materialized"
        if self.lake.changed_at(table, day) is None:
            return "not in the lake"
        if damage := self._damage(key, day):
            return f"damaged: {damage}"
        if changed := next((name for name, at in self._input_changes(key, day) if at > latest.at), ""):
            return f"{changed} has changed since"
        code_version = self.graph.get(key).code_version
        if code_version is not None and latest.code_version != code_version:
            return f"made by code version {latest.code_version}, now {code_version}"
        if latest.run_id in self._runs_with_failed_blocking_checks(key):
            return "a blocking check failed, or did not run"
        # Lists of earlier days stay as customers saw them.
        if table in ASSETS_USING_RULES and day == self.newest and latest.rules_version != self.rules_version:
            return "made with other merchandising rules"
        if table == "release_gate" and day is not None and self._active_release(day) is None:
            return "no release is active, and the limits of the gate may have changed"
        if table in ASSETS_USING_MODELS and day is not None and (release := self._active_release(day)):
            for name, made_with in latest.models.items():
                if (active := release.model_days[name]) != made_with:
                    return f"made with {name} {made_with}, but version {release.version} is active, with {active}"
        return ""

    def _damage(self, key: dg.AssetKey, day: dt.date | None) -> str:
        """How a partition in the lake, or the published index of the newest day, is damaged; "" if it is not."""
        table = key.path[-1]
        if table not in self._damage_by_table:
            self._damage_by_table[table] = self.lake.damage(table)
            is_published = table == "serving_index" and self.newest in self._latest_materializations(key)
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

    def _latest_materializations(self, key: dg.AssetKey) -> dict[dt.date | None, _Materialization]:
        if key not in self._materializations:
            latest: dict[dt.date | None, _Materialization] = {}
            cursor, has_more = None, True
            while has_more:  # newest first
                page = self.instance.fetch_materializations(dg.AssetRecordsFilter(key), limit=1000, cursor=cursor)
                cursor, has_more = page.cursor, page.has_more
                for record in page.records:
                    day = dt.date.fromisoformat(record.partition_key) if record.partition_key else None
                    latest.setdefault(day, _Materialization.from_record(record))
            self._materializations[key] = latest
        return self._materializations[key]

    def _input_changes(self, key: dg.AssetKey, day: dt.date | None) -> Iterator[tuple[str, float]]:
        """The inputs of a partition, and when each changed, in seconds since the epoch."""
        name = key.path[-1]
        if name == "raw_purchase_logs":
            files, manifest = self.source.files(day), self.lake.manifest(name, day)
            yield from (("a landed file", modified_at(file) or 0.0) for file in files)
            if manifest is None or {self.source.label(file) for file in files} != manifest.sources.keys():
                yield "the list of landed files", float("inf")  # whatever their modification times
        if name in API_FILES and day is not None:
            file = landed_file(self.feedback, name, day)
            if file.exists():
                yield "the file that the API landed", file.stat().st_mtime
        if name in ASSETS_USING_EXPERIMENTS and self.experiments is not None and self.experiments.exists():
            yield "the experiments file", self.experiments.stat().st_mtime
        if name == "raw_product_catalog" and (catalog := self.source.catalog_file()):
            yield "the catalog file", modified_at(catalog) or 0.0
        parents = self.graph.get_parents_partitions(key, day.isoformat() if day else None).parent_partitions
        for parent, partition in parents:
            parent_day = dt.date.fromisoformat(partition) if partition else None
            changed = self.lake.changed_at(parent.path[-1], parent_day)
            if changed is not None:
                yield f"{parent.path[-1]}{f' of {parent_day}' if parent_day not in (None, day) else ''}", changed
