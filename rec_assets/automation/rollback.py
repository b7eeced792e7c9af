"""Going back to an earlier release: the registry's alias and the serving index in one move, and the job for it."""

from dagster import Config, Failure, JobDefinition, OpExecutionContext, in_process_executor, job, op

from rec_assets.resources.releases import Release, ReleaseError, Releases
from rec_assets.serving.folder import Published, ServingFolder
from rec_assets.serving.manifest import IndexUnreadable
from rec_assets.serving.self_test import self_test
from rec_assets.settings import Settings


def roll_back(settings: Settings, to: int | None = None) -> tuple[Release, Published]:
    """Take the champion back: alias, and what the API serves.

    The newest index of the version is still there as a rule; else the one it was released with is fetched from MLflow.

    Args:
        settings: Of the deployment.
        to: The version to go back to; default: the one before the champion.

    Raises:
        ReleaseError: there is no such release.
    """
    releases, serving = Releases(settings.mlflow_uri, settings.registered_model), ServingFolder(settings.serving)
    target = releases.rollback_target(to)
    # The index first: a rollback that fails here has changed nothing, and can be asked for again.
    index = next(
        (each for each in reversed(serving.indexes()) if each.version == target.version and _answers(each)), None
    )
    if index is None:
        try:
            index = serving.add(target.version, target.as_of, lambda folder: releases.fetch_index(target, folder))
            self_test(index.path)
        except IndexUnreadable as error:
            if index is not None:  # else the next plans would keep it as the version's newest
                serving.remove(index)
            raise ReleaseError(f"version {target.version} can't be gone back to: {error}") from None
    champion = releases.roll_back(target.version)
    serving.point(index)
    return champion, index


def _answers(index: Published) -> bool:
    try:
        self_test(index.path)
    except IndexUnreadable:
        return False
    return True


class RollbackConfig(Config):
    """Where to go back to."""

    to: int | None = None
    """Version; default: the one before the champion."""


def build_rollback(settings: Settings) -> JobDefinition:
    """The job `rollback`; it does what `rec-assets rollback` does."""

    @op(description="Points the alias `champion` and the serving index to an earlier version.")
    def go_back(context: OpExecutionContext, config: RollbackConfig) -> None:
        try:
            champion, index = roll_back(settings, config.to)
        except ReleaseError as error:
            raise Failure(str(error)) from None
        context.add_output_metadata(
            {"version": champion.version, "as_of": str(champion.as_of), "index": str(index.path)}
        )

    @job(
        executor_def=in_process_executor,
        description="Go back to the release before the champion, or to the version given. What is taken back stays so.",
    )
    def rollback() -> None:
        go_back()

    return rollback
