"""Rollback: point the registry's alias `champion` and the published index to an earlier release.

Dagster: it can materialize an asset again, but it has no releases to return to.
"""

import dagster as dg

from rec_assets.resources.releases import Release, ReleaseError, Releases
from rec_assets.serving.index_files.folder import PublishedIndex, ServingFolder
from rec_assets.serving.index_files.manifest import IndexUnreadable
from rec_assets.serving.index_files.self_test import self_test
from rec_assets.settings import Settings


def roll_back(settings: Settings, to: int | None = None) -> tuple[Release, PublishedIndex]:
    """Make an earlier release the champion again, and publish its index.

    Uses the newest published index of that version, or else fetches the index of the release from MLflow.

    Args:
        settings: Serving folder and model registry.
        to: Version to roll back to; None: the release before the champion.

    Raises:
        ReleaseError: there is no such release, or its index can't be read.
    """
    releases, serving = Releases(settings.mlflow_uri, settings.registered_model), ServingFolder(settings.serving)
    target = releases.rollback_target(to)
    # Find the index first: if this fails, nothing has changed, and you can try again.
    published = (index for index in reversed(serving.indexes()) if index.version == target.version)
    index = next((index for index in published if _passes_self_test(index)), None)
    if index is None:
        try:
            index = serving.add(
                target.version, target.index_as_of, lambda folder: releases.download_index(target, folder)
            )
            self_test(index.path)
        except IndexUnreadable as error:
            if index is not None:  # otherwise later plans would use it as the newest index of the version
                serving.remove(index)
            raise ReleaseError(f"can't roll back to version {target.version}: {error}") from None
    champion = releases.roll_back(target.version)
    serving.make_current(index)
    return champion, index


def _passes_self_test(index: PublishedIndex) -> bool:
    try:
        self_test(index.path)
    except IndexUnreadable:
        return False
    return True


class RollbackConfig(dg.Config):
    """Config of the job `rollback`."""

    to: int | None = None
    """Version to roll back to; default: the release before the champion."""


def build_rollback_job(settings: Settings) -> dg.JobDefinition:
    """The job `rollback`, which does the same as `rec-assets rollback`."""

    @dg.op(description="Points the alias `champion` and the published index to an earlier release.")
    def roll_back_release(context: dg.OpExecutionContext, config: RollbackConfig) -> None:
        try:
            champion, index = roll_back(settings, config.to)
        except ReleaseError as error:
            raise dg.Failure(str(error)) from None
        context.add_output_metadata(
            {"version": champion.version, "as_of": str(champion.as_of), "index": str(index.path)}
        )

    @dg.job(
        executor_def=dg.in_process_executor,
        description="Roll back to the release before the champion, or to a given version. The release rolled back "
        "from is not used again.",
    )
    def rollback() -> None:
        roll_back_release()

    return rollback
