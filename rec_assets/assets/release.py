"""Asset group `release`: register a challenger, compare it with the champion, promote or reject it, publish the index.

The challenger's models are `gate_days` old, so the purchases since then evaluate them. The first release has no
champion to compare with: its models are the newest, and the blocking check on `evaluation_report` guards it.
"""

import datetime as dt
from collections.abc import Callable
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.assets.code_versions import with_layout
from rec_assets.assets.gate_comparison import comparison_lists, first_release_lists
from rec_assets.assets.model_artifact import describe_release, index_writer, register_model
from rec_assets.assets.model_loading import ReleasedModels, missing_models, recipe_of_ranker
from rec_assets.files import write_atomically
from rec_assets.partitions import DayPartitions, as_of_day
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.experiments.experiments_file import ExperimentsError, models_in, read_experiments
from rec_assets.recsys.release.decision_page import Decision, decision_page, decision_table
from rec_assets.recsys.release.gate import check_artifact, check_not_rolled_back
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.data_versions import FILES, Materializations
from rec_assets.resources.lake import Lake, MissingPartition
from rec_assets.resources.product_snapshots import load_product_snapshot
from rec_assets.resources.releases import AS_OF_NAMES, PROMOTED, REJECTED, Release, Releases
from rec_assets.resources.spark import SparkResource
from rec_assets.resources.tracking import TrackingResource
from rec_assets.serving.index_files.folder import PublishedIndex, ServingFolder
from rec_assets.serving.index_files.index import LAYOUT
from rec_assets.settings import Settings
from rec_assets.sources.landing import optional_file_fingerprint
from rec_assets.sources.spec import DataSource

GROUP = "release"
OWNERS = ["team:recommendations"]

EXPERIMENT_LEAD_DAYS = 7
"""Days before its start from which the models of an experiment get an index. A shop may be closed on some of them."""


def challenger_models_day(
    lake: Lake, releases: Releases, day: dt.date, *, gate_days: int, model_reuse_days: int
) -> dt.date:
    """The as-of day of the challenger's models for a release on a day.

    Older models are none, because the gate would not see all purchases since them (`DayPartitions.gate_window`).

    Raises:
        Failure: there are no models that the gate could evaluate; says when there may be.
    """
    champion = releases.active(day - dt.timedelta(days=1))
    latest = day if champion is None else day - dt.timedelta(days=gate_days)
    oldest = latest - dt.timedelta(days=model_reuse_days - 1)
    trained = [model_day for model_day in lake.table("ranker").days if oldest <= model_day <= latest]
    if not trained:
        raise dg.Failure(
            f"no models were trained as of {oldest} to {latest}: run the job `train_models` for {latest} first"
        )
    if champion is not None and trained[-1] <= champion.ranker_as_of:
        raise dg.Failure(
            f"no models newer than the champion's ({champion.ranker_as_of}) can be evaluated by the {gate_days} days "
            f"up to {day}: run the job `train_models` for {latest} first, or wait for "
            f"{champion.ranker_as_of + dt.timedelta(days=gate_days + 1)}"
        )
    return trained[-1]


def release_assets(settings: Settings, source: DataSource, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The assets of the group."""
    models = [dg.AssetDep(name, partition_mapping=days.challenger_window) for name in AS_OF_NAMES]
    past = [
        dg.AssetDep(name, partition_mapping=days.gate_state_window)
        for name in ("product_snapshot", "customer_histories")
    ]
    daily: dict[str, Any] = {
        "group_name": GROUP, "owners": OWNERS, "partitions_def": days.partitions, "code_version": "1",
    }  # fmt: skip

    @dg.asset(**daily, kinds={"mlflow"}, deps=["evaluation_report", *past, *models])
    def challenger(
        context: dg.AssetExecutionContext, tracking: TrackingResource, lake: dg.ResourceParam[Lake],
        releases: dg.ResourceParam[Releases], spark: SparkResource,
    ) -> pd.DataFrame:  # fmt: skip
        """The models that may become champion, registered in MLflow as a pyfunc model of plain arrays.

        It also contains the products and customers as of the day of the models.
        """
        day = as_of_day(context)
        training_day = challenger_models_day(
            lake, releases, day, gate_days=settings.gate_days, model_reuse_days=settings.model_reuse_days
        )
        lake = lake.at({name: version for name in lake.tables() if (version := lake.table(name).version) is not None})
        recipe = recipe_of_ranker(lake.table("ranker").pandas([training_day]))
        landed = Materializations().of("raw_purchase_logs", context.instance)
        proposal = describe_release(
            lake, day, training_day, recipe, days.days_of_training(training_day), landed, context.run.run_id
        )
        release = releases.find_challenger(content=proposal.tags["content"], as_of=day)
        if release is not None:
            releases.set_challenger_alias(release)
        else:
            models = ReleasedModels.load(lake, training_day)
            products = load_product_snapshot(lake.table("product_snapshot"), training_day, settings.staging)
            about = {**proposal.tags, "as_of": proposal.tags["index_as_of"], "time_zone": source.time_zone}
            write = index_writer(
                models.in_snapshot(products), models.ranker, recipe, about,
                histories=lake.table("customer_histories").lazy_rows(spark.spark_session, [training_day]),
                staging=settings.staging,
            )  # fmt: skip
            release = register_model(tracking, releases, proposal, write)
        tags = {name: value for name, value in release.tags.items() if name != "recipe"}
        context.add_output_metadata({**tags, "version": release.version, "mlflow_run": tracking.link})
        return pd.DataFrame([{"version": release.version, **proposal.tags}])

    @dg.asset(
        **daily, kinds={"spark", "mlflow"}, deps=past,
        ins={"cleaned_interactions": dg.AssetIn(partition_mapping=days.gate_window)},
    )  # fmt: skip
    def release_gate(
        context: dg.AssetExecutionContext, tracking: TrackingResource, lake: dg.ResourceParam[Lake],
        releases: dg.ResourceParam[Releases], challenger: pd.DataFrame, cleaned_interactions: SparkFrame,
    ) -> pd.DataFrame:  # fmt: skip
        """Gate checks of the challenger, compared with the champion on the same days and customers."""
        day = as_of_day(context)
        proposed = releases.get(int(challenger["version"].iloc[0]))
        current = releases.active(day - dt.timedelta(days=1))
        if current is None:
            lists = first_release_lists(lake, proposed, settings, cleaned_interactions.sparkSession)
        else:
            lists = comparison_lists(
                lake, proposed, current, settings, as_of=day, cleaned_interactions=cleaned_interactions
            )
        list_checks, comparisons = lists.evaluate(settings)
        measured = {name: float(proposed.tags[name]) for name in ("artifact_mb", "latency_ms")}
        rolled_back_check = check_not_rolled_back(releases.find_rolled_back(proposed))
        checks = [*list_checks, *check_artifact(**measured, limits=settings.gate), rolled_back_check]
        decision = Decision(
            day, proposed.ranker_as_of, proposed.version, current.version if current else None, checks, comparisons,
            missing_models(lake, proposed),
        )  # fmt: skip
        path = settings.report(day, "release")
        write_atomically(path, decision_page(decision))
        if not decision.passed and not proposed.decision:  # a second evaluation does not change a decision
            releases.set_decision(proposed.version, REJECTED, {"reasons": decision.reasons})
        mlflow = tracking.mlflow
        mlflow.log_artifact(str(path))
        mlflow.set_tags({"gate": "passed" if decision.passed else "failed", "reasons": decision.reasons})
        mlflow.log_metrics({f"gate/{check.name}": check.value for check in checks if check.value == check.value})
        context.add_output_metadata(
            {
                "decision": "passed" if decision.passed else REJECTED,
                "version": proposed.version,
                "reasons": decision.reasons,
                "checks": dg.MetadataValue.md(decision_table(decision)),
                "champion": str(decision.champion or "none yet"),
                **({"warning": lists.warning} if lists.warning else {}),
                **({"missing_models": "; ".join(decision.missing_models)} if decision.missing_models else {}),
                "report": dg.MetadataValue.path(path),
                "mlflow_run": tracking.link,
            }
        )
        return pd.DataFrame([{"version": proposed.version, **vars(check)} for check in checks])

    @dg.asset(**daily, kinds={"mlflow"})
    def champion(
        context: dg.AssetExecutionContext, tracking: TrackingResource, releases: dg.ResourceParam[Releases],
        release_gate: pd.DataFrame,
    ) -> pd.DataFrame:  # fmt: skip
        """The active release (alias `champion`): the challenger if it passed the gate, else the champion before it."""
        version = int(release_gate["version"].iloc[0])
        failed = release_gate.loc[~release_gate["passed"], "message"].tolist()
        reasons = "; ".join(failed) or "all gate checks passed"
        if not failed:
            releases.set_decision(version, PROMOTED, {"reasons": reasons})
        active = releases.active(as_of_day(context))
        if active is None:
            raise dg.Failure(
                f"version {version} was rejected: {reasons}. There is no earlier release to publish. Change the limit "
                "(REC_GATE__…) or the models (REC_RECIPE__…), and run `rec-assets bootstrap` again"
            )
        decision = REJECTED if failed else PROMOTED
        tracking.mlflow.set_tags({"decision": decision, "version": version})
        context.add_output_metadata(
            {
                "decision": f"version {version} was {decision}",
                "reasons": reasons,
                "version": active.version,
                "mlflow_run": tracking.link,
            }
        )
        return pd.DataFrame([{"version": active.version}])

    @dg.asset(
        **{**daily, "code_version": with_layout(daily["code_version"], LAYOUT)},
        kinds={"numpy"},
        deps=["champion", "hybrid_scores"],
    )
    def serving_index(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], releases: dg.ResourceParam[Releases],
        serving: dg.ResourceParam[ServingFolder], product_snapshot: ProductSnapshot, customer_histories: LazyArrowRows,
    ) -> pd.DataFrame:  # fmt: skip
        """The serving index of the API: the active release's models with the day's customers and products."""
        day, files = as_of_day(context), optional_file_fingerprint(settings.experiments)
        context.add_output_metadata({FILES: dg.MetadataValue.json(files)})
        release = releases.active(day)
        if release is None:
            raise dg.Failure(f"no release is active on {day}: run the job `release` first")
        scores = _require_current_lists(lake, release, day)
        rules_version = next(iter(scores["rules_version"].unique().to_pylist()), "")

        def publish(version: Release, lists: pa.Table | None) -> PublishedIndex:
            about = {
                "version": str(version.version), "as_of": str(day), "time_zone": source.time_zone,
                "rules_version": rules_version if lists is not None else "",
            }  # fmt: skip
            models = ReleasedModels.from_release(lake, version)
            if models.ranker.warning:
                context.log.warning(f"version {version.version}: {models.ranker.warning}")
                context.add_output_metadata({"warning": models.ranker.warning})
            write = index_writer(
                models.in_snapshot(product_snapshot), models.ranker, version.recipe, about,
                histories=customer_histories, staging=settings.staging, scores=lists,
            )  # fmt: skip
            return serving.add(version.version, day, write)

        published, others = publish(release, scores), {}
        # A model that an experiment lacks must not block the champion's index.
        for name, other in _experiment_models(settings, releases, day, context.log.warning).items():
            try:
                others[name] = published if other.version == release.version else publish(other, None)
            except MissingPartition as error:
                context.log.warning(f"no index for experiments with the model {name!r}: {error}")
        active, current = releases.active(day), serving.current()
        # Don't point to this index if the release was rolled back in the meantime, or a later day is already served.
        if active is not None and active.version == release.version and (current is None or current.as_of <= day):
            serving.make_current(published, others)
        models_by_name = {f"experiment_model_{name}": index.version for name, index in others.items()}
        context.add_output_metadata(
            {**release.model_days, "version": release.version, "path": str(published.path), **models_by_name}
        )
        return pd.DataFrame([{"version": release.version, "path": published.path.name}])

    return [challenger, release_gate, champion, serving_index]


def _require_current_lists(lake: Lake, release: Release, day: dt.date) -> pa.Table:
    """The lists of a day. Raises Failure if they are not from the models of the release."""
    scores, remedy = lake.table("hybrid_scores").read([day]), f"run the job `score_customers` for {day} first"
    for name in ("als_as_of", "ranker_as_of"):
        if set(scores[name].unique().to_pylist()) - {getattr(release, name)}:
            raise dg.Failure(f"the lists of {day} are not from the active release: {remedy}")
    return scores


def _experiment_models(
    settings: Settings, releases: Releases, day: dt.date, warn: Callable[[str], None]
) -> dict[str, Release]:
    """Name in the experiments file → release, for the experiments that run now or start soon."""
    soon = day + dt.timedelta(days=EXPERIMENT_LEAD_DAYS)
    try:
        experiments = read_experiments(settings.experiments).experiments
    except ExperimentsError as error:
        warn(f"no index for experiments: {error}")
        return {}
    running = [experiment for experiment in experiments if experiment.start <= soon and experiment.end >= day]
    found = {name: releases.find_by_name(name) for name in sorted(models_in(running))}
    for name, release in found.items():
        if release is None:
            warn(f"no index for experiments with the model {name!r}: the registry does not have it")
    return {name: release for name, release in found.items() if release is not None}
