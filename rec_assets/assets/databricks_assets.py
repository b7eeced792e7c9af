"""Assets that Databricks materializes: the same in the graph, but a Databricks task runs them (`on_databricks.py`)."""

import json
from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import SecretStr

from rec_assets.errors import UserError
from rec_assets.resources.data_versions import FINGERPRINT, combined
from rec_assets.settings import Settings

LOCAL_SETTINGS = {"home", "source", "experiments", "rules", "lake", "databricks", "api", "ui_url", "mlflow_ui_url",
                  "spark_master", "spark_remote", "spark_conf", "spark_driver_memory"}  # fmt: skip
"""Settings that apply only to this machine."""


class DatabricksUnusable(UserError, RuntimeError):
    """A requirement for Databricks is missing; the message says what to do."""


def run_on_databricks(
    settings: Settings, assets: list[dg.AssetsDefinition], checks: list[dg.AssetChecksDefinition]
) -> tuple[list[dg.AssetsDefinition], list[dg.AssetChecksDefinition]]:
    """The assets and checks, with the assets that `settings.databricks` selects replaced by Databricks tasks.

    Keys, dependencies, partitions, groups and checks stay the same. If Databricks materializes all assets, each task
    also runs the checks of its assets, because only Databricks sees the lake. Checks that do not read it stay here.

    Raises:
        DatabricksUnusable: dagster-databricks is missing.
    """
    assert settings.databricks is not None
    if find_spec("dagster_databricks") is None:
        raise DatabricksUnusable("REC_DATABRICKS__… needs dagster-databricks: pip install 'rec_assets[databricks]'")
    if settings.databricks.assets == "spark":
        return [_remote(settings, asset, []) if _uses_spark(asset) else asset for asset in assets], checks
    here = [check for check in checks if "lake" not in check.required_resource_keys]
    specs = [spec for check in checks if check not in here for spec in check.check_specs]
    remote = [_remote(settings, asset, [spec for spec in specs if spec.asset_key in asset.keys]) for asset in assets]
    return remote, here


def databricks_environment(settings: Settings) -> dict[str, str]:
    """Environment variables that give a process on Databricks these settings, without `LOCAL_SETTINGS`.

    Secrets are excluded, because the variables are in a file in the volume while the task runs.
    """
    assert settings.databricks is not None
    secrets = {name for name in Settings.model_fields if isinstance(getattr(settings, name), SecretStr)}
    chosen = settings.model_dump(mode="json", exclude_unset=True, exclude=LOCAL_SETTINGS | secrets)
    values = {name: value for name, value in chosen.items() if value is not None}
    values |= {"home": settings.databricks.volume, "source": settings.databricks.source or settings.source}
    for name in ("experiments", "rules"):
        if (file := getattr(settings, name)) is not None:
            values[name] = _in_volume(settings, name, file)
    if not isinstance(settings.lake, Path):
        values["lake"] = str(settings.lake)
    return {f"REC_{name.upper()}": v if isinstance(v, str) else json.dumps(v) for name, v in values.items()}


def _in_volume(settings: Settings, name: str, file: Path) -> str:
    """The path on Databricks of a file in a volume, or in REC_HOME, which is a volume there.

    Raises:
        DatabricksUnusable: the file is elsewhere.
    """
    assert settings.databricks is not None
    if file.is_relative_to("/Volumes"):
        return file.as_posix()
    if file.is_relative_to(settings.root):
        return f"{settings.databricks.volume}/{file.relative_to(settings.root).as_posix()}"
    raise DatabricksUnusable(
        f"REC_{name.upper()} ({file}) must be in REC_HOME or in a volume, because Databricks reads it too"
    )


def _remote(
    settings: Settings, definition: dg.AssetsDefinition, checks: list[dg.AssetCheckSpec]
) -> dg.AssetsDefinition:
    databricks = settings.databricks
    assert databricks is not None

    @dg.multi_asset(
        name=definition.op.name,
        specs=list(definition.specs),
        check_specs=checks,
        backfill_policy=definition.backfill_policy,
    )
    def run_remotely(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        from rec_assets.resources.databricks import run_task

        days = list(context.partition_keys) if definition.partitions_def else []
        name = " ".join(["rec_assets", definition.op.name, *days[:1], *(["to", days[-1]] if days[1:] else [])])
        extras = {"environment": databricks_environment(settings), "days": days, "with_checks": bool(checks)}
        result = run_task(context, databricks, name, extras)
        for message in result.messages:
            yield from _results(context, message, result.metadata, {spec.key for spec in checks})

    return run_remotely


def _results(
    context: dg.AssetExecutionContext, message: Mapping[str, Any], run_metadata: Mapping[str, Any],
    checks: Collection[dg.AssetCheckKey],
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:  # fmt: skip
    if "check" in message:
        check = dg.deserialize_value(message["check"], dg.AssetCheckEvaluation)
        if check.asset_check_key not in checks:
            return
        yield dg.AssetCheckResult(
            asset_key=check.asset_key, check_name=check.check_name, passed=check.passed, severity=check.severity,
            description=check.description, metadata=check.metadata,
        )  # fmt: skip
        return
    key = dg.AssetKey.from_user_string(message["asset"])
    shared = dg.deserialize_value(message["metadata"], dict)
    by_day = {day: dg.deserialize_value(metadata, dict) for day, metadata in message["by_day"].items()}
    for day, metadata in by_day.items():
        context.add_asset_metadata(metadata, asset_key=key, partition_key=day)
    fingerprints = [str(each[FINGERPRINT].value) for each in (shared, *by_day.values()) if FINGERPRINT in each]
    yield dg.MaterializeResult(
        asset_key=key, data_version=dg.DataVersion(combined(fingerprints)), metadata={**shared, **run_metadata}
    )


def _uses_spark(definition: dg.AssetsDefinition) -> bool:
    return any("spark" in spec.kinds for spec in definition.specs)
