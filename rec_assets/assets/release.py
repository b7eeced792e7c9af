"""Group `release`: a challenger is proposed, judged beside the champion, promoted or not, and published.

A challenger's models were trained `gate_days` ago, so that the purchases since can judge them: what is released is
what was judged. The first release has no champion to be held against; its models are the newest, and the blocking
check on `evaluation_report` stands before it.

A rejection is a result: `champion` is then the release in force, and what comes after goes on with it. Only where no
release is in force does it fail, as there is nothing to publish.
"""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from dagster import (
    AssetDep,
    AssetExecutionContext,
    AssetIn,
    AssetsDefinition,
    Failure,
    MetadataValue,
    ResourceParam,
    asset,
)
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.assets.artifact import index_writer, propose, register
from rec_assets.assets.gate_lists import first_lists, trial_lists
from rec_assets.assets.models import as_of, layout_digest
from rec_assets.assets.models_of_day import Models, missing_models, recipe_from
from rec_assets.files import write_whole
from rec_assets.partitions import DayPartitions
from rec_assets.recsys.experiments.spec import ExperimentsError, models_of, read_experiments
from rec_assets.recsys.release.gate import check_artifact, check_not_taken_back
from rec_assets.recsys.release.page import Decision, decision_page, decision_table
from rec_assets.resources.lake import Lake, MissingPartition
from rec_assets.resources.releases import PROMOTED, REJECTED, Release, Releases
from rec_assets.resources.storage import STAGING
from rec_assets.resources.tracking import TrackingResource
from rec_assets.serving.folder import Published, ServingFolder
from rec_assets.serving.index import LAYOUT
from rec_assets.settings import Settings
from rec_assets.sources.spec import Source

GROUP = "release"

SOON_DAYS = 7
"""Days before an experiment's first from which its models have an index: a shop may be closed for some."""

OWNERS = ["team:recommendations"]


def decision_path(settings: Settings, day: dt.date) -> Path:
    """Where the page that explains a day's decision lies."""
    return settings.reports / f"date={day}" / "release.html"


def challenger_day(lake: Lake, releases: Releases, day: dt.date, gate_days: int) -> dt.date:
    """The day whose models are the challenger's on a day.

    Raises:
        Failure: there are none that the gate could judge; says from which day on there may be.
    """
    champion = releases.in_force(day - dt.timedelta(days=1))
    latest = day if champion is None else day - dt.timedelta(days=gate_days)
    trained = [each for each in lake.days("ranker") if each <= latest]
    if not trained:
        raise Failure(f"no models were trained as of {latest} or before: run the job `train` for {latest} first")
    if champion is not None and trained[-1] <= champion.ranker_version:
        raise Failure(
            f"the champion's models are of {champion.ranker_version}, and none were trained since that the {gate_days} "
            f"days up to {day} could judge: run the job `train` for {latest} first, or wait for "
            f"{champion.ranker_version + dt.timedelta(days=gate_days + 1)}"
        )
    return trained[-1]


def release_assets(settings: Settings, source: Source, days: DayPartitions) -> list[AssetsDefinition]:
    """The assets of the group."""
    lookback = AssetIn(partition_mapping=days.lookback)
    models = [
        AssetDep(name, partition_mapping=days.challenger_window)
        for name in ("als_model", "co_purchase_graph", "ranker")
    ]
    daily: dict[str, Any] = {
        "group_name": GROUP,
        "owners": OWNERS,
        "partitions_def": days.partitions,
        "code_version": "1",
    }

    @asset(**daily, kinds={"mlflow"}, deps=["evaluation_report", *models], ins={"cleaned_interactions": lookback})
    def challenger(
        context: AssetExecutionContext,
        tracking: TrackingResource,
        lake: ResourceParam[Lake],
        releases: ResourceParam[Releases],
        cleaned_interactions: SparkFrame,
        product_statistics: pd.DataFrame,
        products: pd.DataFrame,
        product_embeddings: pd.DataFrame,
    ) -> pd.DataFrame:
        """The models that may become champion, as one MLflow pyfunc of plain arrays, in the registry."""
        day = as_of(context)
        trained = challenger_day(lake, releases, day, settings.gate_days)
        recipe = recipe_from(lake.pandas("ranker", [trained]))
        proposal = propose(lake, day, trained, recipe, days.lookback_days(trained), context.run.run_id)
        release = releases.find(content=proposal.tags["content"], as_of=day)
        if release is not None:
            releases.mark_challenger(release)
        else:
            write = index_writer(
                day, Models.read(lake, trained, trained, trained), recipe,
                {**proposal.tags, "time_zone": source.time_zone},
                cleaned_interactions=cleaned_interactions, product_statistics=product_statistics, products=products,
                product_embeddings=product_embeddings, staging=settings.shared_disk / STAGING,
            )  # fmt: skip
            release = register(tracking, releases, proposal, write)
        about = {name: value for name, value in release.tags.items() if name != "recipe"}
        context.add_output_metadata({**about, "version": release.version, "mlflow_run": tracking.link})
        return pd.DataFrame([{"version": release.version, **proposal.tags}])

    @asset(
        **daily,
        kinds={"spark", "mlflow"},
        deps=models,
        ins={"cleaned_interactions": AssetIn(partition_mapping=days.gate_window)},
    )
    def release_gate(
        context: AssetExecutionContext,
        tracking: TrackingResource,
        lake: ResourceParam[Lake],
        releases: ResourceParam[Releases],
        challenger: pd.DataFrame,
        cleaned_interactions: SparkFrame,
        products: pd.DataFrame,
        product_embeddings: pd.DataFrame,
    ) -> pd.DataFrame:
        """Challenger and champion on the same days and customers: may it be promoted, with numbers and reasons."""
        day = as_of(context)
        proposed = releases.get(int(challenger["version"].iloc[0]))
        standing = releases.in_force(day - dt.timedelta(days=1))
        if standing is None:
            lists = first_lists(lake, proposed, settings, cleaned_interactions.sparkSession)
        else:
            lists = trial_lists(
                lake, proposed, standing, settings, as_of=day, cleaned_interactions=cleaned_interactions,
                products=products, product_embeddings=product_embeddings,
            )  # fmt: skip
        rules, comparisons = lists.judge(settings)
        checks = [
            *rules,
            *check_artifact(
                artifact_mb=float(proposed.tags["artifact_mb"]), latency_ms=float(proposed.tags["latency_ms"]),
                limits=settings.gate,
            ),
            check_not_taken_back(releases.taken_back(proposed)),
        ]  # fmt: skip
        decision = Decision(
            day, proposed.ranker_version, proposed.version, standing.version if standing else None, checks, comparisons,
            missing_models(lake, proposed),
        )  # fmt: skip
        path = decision_path(settings, day)
        write_whole(path, decision_page(decision))
        if not decision.passed and not proposed.decision:  # judging again doesn't undo what was decided
            releases.decide(proposed.version, REJECTED, {"reasons": decision.reasons})
        mlflow = tracking.mlflow
        mlflow.log_artifact(str(path))
        mlflow.set_tags({"gate": "passed" if decision.passed else "failed", "reasons": decision.reasons})
        mlflow.log_metrics({f"gate/{check.name}": check.value for check in checks if check.value == check.value})
        context.add_output_metadata(
            {
                "decision": "may be promoted" if decision.passed else REJECTED,
                "version": proposed.version,
                "reasons": decision.reasons,
                "rules": MetadataValue.md(decision_table(decision)),
                "champion": str(decision.champion or "none yet"),
                **({"warning": lists.warning} if lists.warning else {}),
                **({"not_learned": "; ".join(decision.not_learned)} if decision.not_learned else {}),
                "page": MetadataValue.path(path),
                "mlflow_run": tracking.link,
            }
        )
        return pd.DataFrame([{"version": proposed.version, **vars(check)} for check in checks])

    @asset(**daily, kinds={"mlflow"})
    def champion(
        context: AssetExecutionContext,
        tracking: TrackingResource,
        releases: ResourceParam[Releases],
        release_gate: pd.DataFrame,
    ) -> pd.DataFrame:
        """The release in force, the alias `champion`: the challenger if it passed its gate, else the one before."""
        version = int(release_gate["version"].iloc[0])
        failed = release_gate.loc[~release_gate["passed"], "says"].tolist()
        reasons = "; ".join(failed) or "every rule holds"
        if not failed:
            releases.decide(version, PROMOTED, {"reasons": reasons})
        standing = releases.in_force(as_of(context))
        if standing is None:
            raise Failure(
                f"version {version} was rejected: {reasons}. No release was promoted before it, so there is none to "
                "publish. Change the limit (REC_GATE__…) or the models (REC_RECIPE__…), and run `rec-assets bootstrap` "
                "again"
            )
        decision = REJECTED if failed else PROMOTED
        tracking.mlflow.set_tags({"decision": decision, "version": version})
        context.add_output_metadata(
            {
                "decision": f"version {version} was {decision}",
                "reasons": reasons,
                "version": standing.version,
                "mlflow_run": tracking.link,
            }
        )
        return pd.DataFrame([{"version": standing.version}])

    @asset(
        **{**daily, "code_version": f"{daily['code_version']}-{layout_digest(LAYOUT)}"},
        kinds={"numpy"},
        deps=["champion", "hybrid_scores", *models],
        ins={"cleaned_interactions": lookback},
    )
    def serving_index(
        context: AssetExecutionContext,
        lake: ResourceParam[Lake],
        releases: ResourceParam[Releases],
        serving: ResourceParam[ServingFolder],
        cleaned_interactions: SparkFrame,
        product_statistics: pd.DataFrame,
        products: pd.DataFrame,
        product_embeddings: pd.DataFrame,
    ) -> pd.DataFrame:
        """What the API serves: the champion's models, with all that is known of customers and products on the day."""
        day = as_of(context)
        release = releases.in_force(day)
        if release is None:
            raise Failure(f"no release is in force on {day}: run the job `release` first")
        scores = lake.read("hybrid_scores", [day])
        if any(
            set(scores[name].unique().to_pylist()) - {getattr(release, name)}
            for name in ("als_version", "ranker_version")
        ):
            raise Failure(f"the lists of {day} are not by the release in force: run the job `score` for {day} first")

        if "rules_version" not in scores.column_names:
            raise Failure(f"the lists of {day} were made by an earlier version: run the job `score` for {day} first")
        kept_to = next(iter(scores["rules_version"].unique().to_pylist()), "")

        def index_of(this: Release, lists: pa.Table | None) -> Published:
            about = {
                "version": str(this.version), "as_of": str(day), "time_zone": source.time_zone,
                "rules_version": kept_to if lists is not None else "",
            }  # fmt: skip
            models = Models.of(lake, this)
            if models.ranker.warning:
                context.log.warning(f"version {this.version}: {models.ranker.warning}")
                context.add_output_metadata({"warning": models.ranker.warning})
            write = index_writer(
                day, models, this.recipe, about,
                cleaned_interactions=cleaned_interactions, product_statistics=product_statistics, products=products,
                product_embeddings=product_embeddings, staging=settings.shared_disk / STAGING, scores=lists,
            )  # fmt: skip
            return serving.add(this.version, day, write)

        published, others = index_of(release, scores), {}
        # What experiments lack must not keep the champion's index from the API.
        for name, other in _compared(settings, releases, day, context.log.warning).items():
            try:
                others[name] = published if other.version == release.version else index_of(other, None)
            except MissingPartition as error:
                context.log.warning(f"no index for experiments with the model {name!r}: {error}")
        still, current = releases.in_force(day), serving.current()
        # Unless it was rolled back while the index was made, or a later day is being served.
        if still is not None and still.version == release.version and (current is None or current.as_of <= day):
            serving.point(published, others)
        beside = {f"beside_{name}": each.version for name, each in others.items()}
        context.add_output_metadata(
            {**release.models, "version": release.version, "path": str(published.path), **beside}
        )
        return pd.DataFrame([{"version": release.version, "path": published.path.name}])

    return [challenger, release_gate, champion, serving_index]


def _compared(settings: Settings, releases: Releases, day: dt.date, warn: Callable[[str], None]) -> dict[str, Release]:
    """The models that experiments compare with the champion, now or soon, by the names they ask by."""
    soon = day + dt.timedelta(days=SOON_DAYS)
    try:
        experiments = read_experiments(settings.experiments).experiments
    except ExperimentsError as error:
        warn(f"no index for experiments: {error}")
        return {}
    running = [each for each in experiments if each.start <= soon and each.end >= day]
    found = {name: releases.named(name) for name in sorted(models_of(running))}
    for name, release in found.items():
        if release is None:
            warn(f"no index for experiments with the model {name!r}: the registry doesn't have it")
    return {name: release for name, release in found.items() if release is not None}
