"""Which partitions are up to date: those materialized since all that they were made from last changed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dagster import AssetCheckSeverity, AssetKey, AssetRecordsFilter, DagsterInstance, Definitions, EventLogRecord
from dagster._core.definitions.data_version import CODE_VERSION_TAG
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from rec_assets.automation.plan import PlannedRun
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Release, Releases
from rec_assets.serving.folder import ServingFolder
from rec_assets.sources.feedback import LANDED, landed_file
from rec_assets.sources.landing import modified_at
from rec_assets.sources.spec import Source

USERS_OF_MODELS = {"candidates", "hybrid_scores", "similar_products", "serving_index"}
"""Assets made with the models in force; their metadata tell which these were."""

USERS_OF_EXPERIMENTS = {"experiment_report", "serving_index"}
"""Assets made by what the experiments' file says."""

USERS_OF_RULES = {"hybrid_scores"}
"""Assets made by the merchandiser's rules; their metadata tell by which version of them."""

CHECKS_LOOKED_AT = 100

Partition = tuple[AssetKey, dt.date | None]

_EVALUATED = (AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED)


def _only_warns(record: AssetCheckExecutionRecord) -> bool:
    evaluation = record.evaluation
    return evaluation is not None and evaluation.severity == AssetCheckSeverity.WARN


@dataclass(frozen=True)
class _Made:
    """A materialization: when, by which version of the code, with which models, and by which rules."""

    at: float
    run_id: str
    code_version: str | None
    models: dict[str, str]
    rules_version: str


class Freshness:
    """Looks at Dagster's records, the lake, the registry and the landed files.

    A partition is stale if it was never materialized, or is gone from the lake, or damaged there; if it is the newest
    day's index, and damaged or gone where it is served; if something it was made from has changed since: an upstream
    partition in the lake, a landed file, or the experiments' file; if another version of the asset's code made it
    (`code_version`); if a blocking check failed on it; if other models are in force on its day than it was made with;
    or if it is of the newest day, and made by other rules than the shop has now. Lists of days before are judged as
    they were shown. While no release is in force, the gate's decision is stale: the next plan may have other limits.
    """

    def __init__(
        self,
        definitions: Definitions,
        instance: DagsterInstance,
        lake: Lake,
        releases: Releases,
        source: Source,
        feedback: Path,
        experiments: Path | None = None,
        rules_version: str = "",
        newest: dt.date | None = None,
        serving: ServingFolder | None = None,
    ) -> None:
        self.definitions, self.graph = definitions, definitions.resolve_asset_graph()
        self.instance, self.lake, self.releases, self.source = instance, lake, releases, source
        self.feedback, self.experiments = feedback, experiments
        self.rules_version, self.newest, self.serving = rules_version, newest, serving
        self._made_by_key: dict[AssetKey, dict[dt.date | None, _Made]] = {}
        self._unproven_by_key: dict[AssetKey, set[str]] = {}
        self._in_force: dict[dt.date, Release | None] = {}
        self._damage_by_table: dict[str, dict[dt.date | None, str]] = {}

    def forget(self) -> None:
        """Look at everything anew: a run has ended."""
        self._made_by_key.clear()
        self._unproven_by_key.clear()
        self._in_force.clear()
        self._damage_by_table.clear()

    def stale(self, run: PlannedRun) -> list[Partition]:
        """The partitions of a planned run that are stale, or made from such."""
        selected = self.definitions.resolve_job_def(run.job).asset_layer.selected_asset_keys
        direct = [(key, day) for key in selected for day in run.days if self.is_stale(key, day)]
        # What is made from something stale is stale too, before it is remade.
        keys = {key for key, _ in direct}
        for key in self.graph.toposorted_asset_keys:
            if key in selected and self.graph.get(key).parent_keys & keys:
                keys.add(key)
        days = {day for _, day in direct}
        return [(key, day) for key in selected if key in keys for day in run.days if day in days]

    def is_stale(self, key: AssetKey, day: dt.date | None) -> bool:
        """Whether one partition is, by itself."""
        table = key.path[-1]
        made = self._made(key).get(day)
        if made is None or self.lake.changed_at(table, day) is None or self.damage(key, day):
            return True
        if any(changed > made.at for changed in self._inputs_changed(key, day)):
            return True
        code_version = self.graph.get(key).code_version
        if code_version is not None and made.code_version != code_version:
            return True
        if made.run_id in self._unproven(key):
            return True
        if table in USERS_OF_RULES and day == self.newest and made.rules_version != self.rules_version:
            return True
        if table == "release_gate" and day is not None and self._release_on(day) is None:
            return True
        return table in USERS_OF_MODELS and day is not None and self._others_in_force(made, day)

    def damage(self, key: AssetKey, day: dt.date | None) -> str:
        """How a partition is damaged, in the lake or, of the newest day's index, where it is served; "" if it isn't."""
        table = key.path[-1]
        if table not in self._damage_by_table:
            self._damage_by_table[table] = self.lake.damage(table)
            is_served = table == "serving_index" and self.newest in self._made(key)
            if is_served and self.serving is not None and (why := self.serving.damage()):
                self._damage_by_table[table][self.newest] = why
        return self._damage_by_table[table].get(day, "")

    def _unproven(self, key: AssetKey) -> set[str]:
        """Runs in which a blocking check of the asset failed, or was to come and didn't: what they made doesn't count.

        Else what a check has stopped once would go on at the next try.
        """
        if key not in self._unproven_by_key:
            blocking = [
                check for check in self.graph.asset_check_keys
                if check.asset_key == key and self.graph.get_check_spec(check).blocking
            ]  # fmt: skip
            unproven = set()
            for check in blocking:
                found: dict[str, set[bool]] = {}
                storage = self.instance.event_log_storage
                for record in storage.get_asset_check_execution_history(check, limit=CHECKS_LOOKED_AT):
                    # A run has one record that the check is planned, and another of its result.
                    results = found.setdefault(record.run_id, set())
                    if record.status in _EVALUATED:
                        results.add(record.status == AssetCheckExecutionRecordStatus.SUCCEEDED or _only_warns(record))
                unproven |= {run for run, results in found.items() if results != {True}}
            self._unproven_by_key[key] = unproven
        return self._unproven_by_key[key]

    def _others_in_force(self, made: _Made, day: dt.date) -> bool:
        release = self._release_on(day)
        if release is None:
            return False
        return any(release.models[name] != version for name, version in made.models.items())

    def _release_on(self, day: dt.date) -> Release | None:
        if day not in self._in_force:
            self._in_force[day] = self.releases.in_force(day)
        return self._in_force[day]

    def _made(self, key: AssetKey) -> dict[dt.date | None, _Made]:
        if key not in self._made_by_key:
            records: list[EventLogRecord] = []
            cursor = None
            while True:
                page = self.instance.fetch_materializations(
                    AssetRecordsFilter(asset_key=key), limit=1000, cursor=cursor
                )
                records += page.records
                cursor = page.cursor
                if not page.has_more:
                    break
            made: dict[dt.date | None, _Made] = {}
            for record in reversed(records):
                day = dt.date.fromisoformat(record.partition_key) if record.partition_key else None
                metadata = record.asset_materialization.metadata if record.asset_materialization else {}
                models = {
                    name: str(metadata[name].value)
                    for name in ("als_version", "graph_version", "ranker_version")
                    if name in metadata
                }
                rules_version = str(metadata["rules_version"].value) if "rules_version" in metadata else ""
                tags = (record.asset_materialization.tags or {}) if record.asset_materialization else {}
                code_version = tags.get(CODE_VERSION_TAG)
                made[day] = _Made(record.timestamp, record.run_id, code_version, models, rules_version)
            self._made_by_key[key] = made
        return self._made_by_key[key]

    def _inputs_changed(self, key: AssetKey, day: dt.date | None) -> Iterator[float]:
        name = key.path[-1]
        if name == "raw_purchase_logs":
            files, manifest = self.source.files(day), self.lake.manifest(name, day)
            yield from (modified_at(file) or 0.0 for file in files)
            if manifest is None or {self.source.label(file) for file in files} != manifest.sources.keys():
                yield float("inf")  # another file lies there, however old it says it is
        if name in LANDED and day is not None:
            file = landed_file(self.feedback, name, day)
            if file.exists():
                yield file.stat().st_mtime
        if name in USERS_OF_EXPERIMENTS and self.experiments is not None and self.experiments.exists():
            yield self.experiments.stat().st_mtime
        if name == "raw_product_catalog" and (catalog := self.source.catalog_file()):
            yield modified_at(catalog) or 0.0
        parents = self.graph.get_parents_partitions(key, day.isoformat() if day else None).parent_partitions
        for parent, partition in parents:
            parent_day = dt.date.fromisoformat(partition) if partition else None
            changed = self.lake.changed_at(parent.path[-1], parent_day)
            if changed is not None:
                yield changed
