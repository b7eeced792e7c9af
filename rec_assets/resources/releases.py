"""Releases: the versions of the registered model in the MLflow model registry, and which version is active.

A version is registered with tags, decided once (promoted or rejected), and may be rolled back later. The alias
`champion` follows from these tags: it names the newest promoted version that was not rolled back.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rec_assets.errors import UserError
from rec_assets.recsys.recipe import Recipe
from rec_assets.resources.mlflow_store import prepare_store
from rec_assets.sqlite import sqlite_file

CHAMPION, CHALLENGER = "champion", "challenger"
PROMOTED, REJECTED = "promoted", "rejected"

AS_OF_NAMES = {"als_model": "als_as_of", "co_purchase_graph": "graph_as_of", "ranker": "ranker_as_of"}
"""Model asset → name of its as-of day in columns, tags and metadata."""


class ReleaseError(UserError, RuntimeError):
    """No such release, or none to roll back to; the message lists the releases."""


@dataclass(frozen=True)
class Release:
    """One version in the registry.

    Attributes:
        version: Version number.
        as_of: As-of day of the release: it contains no later data.
        als_as_of, graph_as_of, ranker_as_of: As-of days of its models.
        content: SHA-256 of the models and the recipe.
        decision: "promoted", "rejected", or "" if not decided.
        rolled_back: Whether it was rolled back after its promotion.
        run_id: MLflow run that logged it.
        tags: All tags in MLflow.
    """

    version: int
    as_of: dt.date
    als_as_of: dt.date
    graph_as_of: dt.date
    ranker_as_of: dt.date
    content: str
    decision: str
    rolled_back: bool
    run_id: str
    tags: Mapping[str, str]

    @property
    def index_as_of(self) -> dt.date:
        """As-of day of the products and customers in the registered model."""
        day = self.tags.get("index_as_of")  # versions of earlier code have none
        return dt.date.fromisoformat(day) if day else self.as_of

    @property
    def recipe(self) -> Recipe:
        """The recipe of its models. Hyper-parameters that the version lacks have their defaults.

        Raises:
            ReleaseError: the recipe is not valid for this version of rec_assets.
        """
        try:
            return Recipe.from_stored(json.loads(self.tags["recipe"]))
        except ValueError as error:
            raise ReleaseError(
                f"this version of rec_assets can't read the recipe of version {self.version}: roll back to another "
                f"release with `rec-assets rollback --to VERSION`, or install the code of commit "
                f"{self.tags.get('git_commit') or 'unknown'} (docs/operations.md, Upgrading): {error}"
            ) from None

    @property
    def table_versions(self) -> dict[str, int]:
        """Table → version in the lake of everything that the release was made from."""
        versions: dict[str, int] = json.loads(self.tags.get("table_versions", "{}"))
        return versions

    @property
    def model_fingerprints(self) -> dict[str, str]:
        """Model asset → fingerprint of the partition that the release was made from."""
        fingerprints: dict[str, str] = json.loads(self.tags.get("model_fingerprints", "{}"))
        return fingerprints

    @property
    def model_days(self) -> dict[str, str]:
        """As-of days of the models by their names in columns and metadata (`AS_OF_NAMES`)."""
        return {name: str(getattr(self, name)) for name in AS_OF_NAMES.values()}

    @property
    def is_promoted(self) -> bool:
        """Whether it is promoted and not rolled back."""
        return self.decision == PROMOTED and not self.rolled_back

    @property
    def order(self) -> tuple[dt.date, int]:
        """Sort key: older releases first."""
        return self.as_of, self.version


class Releases:
    """The versions of one registered model.

    Args:
        uri: Tracking URI of MLflow.
        model: Name of the registered model.
    """

    def __init__(self, uri: str, model: str) -> None:
        self.uri, self.model = uri, model
        # A Databricks workspace registers models in Unity Catalog; elsewhere the tracking server is also the registry.
        self.in_unity_catalog = uri.partition("://")[0] == "databricks"
        self.registry_uri = uri.replace("databricks", "databricks-uc", 1) if self.in_unity_catalog else uri

    @property
    def client(self) -> Any:
        """MLflow's client."""
        from mlflow import MlflowClient

        prepare_store(self.uri)
        return MlflowClient(self.uri, self.registry_uri)

    @property
    def _exists(self) -> bool:
        """Whether the registry exists. A client would create a missing SQLite file."""
        file = sqlite_file(self.uri)
        return file is None or file.exists()

    def versions(self) -> list[Release]:
        """All versions that rec_assets registered, oldest first; empty if the model was never registered."""
        if not self._exists:
            return []
        client = self.client
        found = client.search_model_versions(f"name = '{self.model}'", max_results=10_000)
        if self.in_unity_catalog:  # its search results have no tags
            found = [client.get_model_version(self.model, item.version) for item in found]
        return sorted((_from_mlflow(item) for item in found if "as_of" in item.tags), key=lambda item: item.version)

    def get(self, version: int) -> Release:
        """The version with a number.

        Raises:
            ReleaseError: it does not exist.
        """
        releases = self._require_versions()
        release = next((item for item in releases if item.version == version), None)
        if release is None:
            raise ReleaseError(f"{self.model} has no version {version}; there are: {_format(releases)}")
        return release

    def get_by_name(self, name: str) -> Release:
        """The version with a number or alias.

        Raises:
            ReleaseError: it does not exist.
        """
        existing = _format(self._require_versions())
        release = self.find_by_name(name)
        if release is None:
            raise ReleaseError(f"{self.model} has no version or alias {name!r}; there are: {existing}")
        return release

    def find_by_name(self, name: str) -> Release | None:
        """The version with a number or alias, or None."""
        from mlflow.exceptions import MlflowException

        if not self._exists:
            return None
        try:
            number = name if name.isdecimal() else self.client.get_model_version_by_alias(self.model, name).version
        except MlflowException:
            return None
        return next((release for release in self.versions() if release.version == int(number)), None)

    def find_challenger(self, *, content: str, as_of: dt.date) -> Release | None:
        """The version with these models and this as-of day, if it is already registered."""
        return next((item for item in self.versions() if item.content == content and item.as_of == as_of), None)

    def find_rolled_back(self, release: Release) -> int | None:
        """The number of a rolled-back version with the same models, or None."""
        same = [item.version for item in self.versions() if item.content == release.content and item.rolled_back]
        return max(same, default=None)

    def active(self, day: dt.date | None = None) -> Release | None:
        """The active release, now or as of a day: the newest that was promoted by then and not rolled back, or None."""
        promoted = [item for item in self.versions() if item.is_promoted and (day is None or item.as_of <= day)]
        return max(promoted, key=lambda item: item.order, default=None)

    def active_before(self, day: dt.date) -> Release | None:
        """The champion that a release of this day is compared with.

        This is the release that was active on the day before, because a job that was killed after its promotion must
        continue with the same champion. Without one, it is the day's own release.
        """
        return self.active(day - dt.timedelta(days=1)) or self.active(day)

    def decision_summary(self, day: dt.date) -> str:
        """The decision on the newest version of a day as a sentence; "" without a version."""
        same_day = (release for release in self.versions() if release.as_of == day)
        challenger = max(same_day, key=lambda release: release.version, default=None)
        if challenger is None:
            return ""
        champion = self.active(day)
        stays = f"; version {champion.version} stays" if champion and champion.version != challenger.version else ""
        reasons = f": {challenger.tags['reasons']}" if challenger.decision == REJECTED else ""
        return f"version {challenger.version} was {challenger.decision or 'not decided'}{reasons}{stays}"

    def load_inputs(self, release: Release) -> dict[str, dict[str, Any]]:
        """Table → day → fingerprint and landed files of everything that a release was made from."""
        with tempfile.TemporaryDirectory() as folder:
            path = self.client.download_artifacts(release.run_id, "inputs.json", folder)
            inputs: dict[str, dict[str, Any]] = json.loads(Path(path).read_text())
            return inputs

    def download_index(self, release: Release, folder: Path) -> None:
        """Copy the index of a registered version to a new folder."""
        import mlflow

        prepare_store(self.uri)
        mlflow.set_tracking_uri(self.uri)
        with tempfile.TemporaryDirectory() as download:
            uri = f"models:/{self.model}/{release.version}"
            model = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=download)
            shutil.copytree(Path(model) / "artifacts" / "index", folder)

    def replace_index(self, release: Release, folder: Path) -> None:
        """Replace the index of a registered version by the index in a folder."""
        version = self.client.get_model_version(self.model, str(release.version))
        model = version.source.removeprefix("models:/")  # the source names the logged model of the version
        self.client.log_model_artifacts(model, str(folder), "artifacts/index")

    def set_challenger(self, version: int, tags: Mapping[str, object]) -> Release:
        """Set the tags of a newly registered version and the alias `challenger`."""
        self.set_tags(version, tags)
        release = self.get(version)
        self.set_challenger_alias(release)
        return release

    def set_challenger_alias(self, release: Release) -> None:
        """Set the alias `challenger`."""
        self.client.set_registered_model_alias(self.model, CHALLENGER, str(release.version))

    def set_tags(self, version: int, tags: Mapping[str, object]) -> None:
        """Set tags of a version. `as_of` comes last, because it marks a version as a complete release."""
        client = self.client
        for name, value in sorted(tags.items(), key=lambda item: item[0] == "as_of"):
            client.set_model_version_tag(self.model, str(version), name, str(value))

    def set_decision(self, version: int, decision: str, tags: Mapping[str, object]) -> None:
        """Promote or reject a version, with tags that give the reasons, and update the alias `champion`."""
        self.set_tags(version, {**tags, "decision": decision})
        self.set_champion_alias()

    def set_champion_alias(self) -> Release | None:
        """Set the alias `champion` to the active version and return that version."""
        release = self.active()
        if release is not None:
            self.client.set_registered_model_alias(self.model, CHAMPION, str(release.version))
        return release

    def rollback_target(self, to: int | None = None) -> Release:
        """The version that a rollback would activate: the one before the champion, or `to`.

        Raises:
            ReleaseError: there is no earlier version, or `to` was never promoted.
        """
        releases = self._require_versions()
        promoted = sorted((item for item in releases if item.is_promoted), key=lambda item: item.order)
        if to is None:
            if len(promoted) < 2:
                raise ReleaseError(
                    f"{self.model} has no earlier version to roll back to; promoted and not rolled back: "
                    f"{_format(promoted)}"
                )
            to = promoted[-2].version
        target = self.get(to)
        if target.decision != PROMOTED:
            raise ReleaseError(
                f"{self.model} version {to} was {target.decision or 'not decided'}, so you can't roll back to it; "
                f"promoted: {_format([item for item in releases if item.decision == PROMOTED])}"
            )
        return target

    def roll_back(self, to: int | None = None) -> Release:
        """Roll back the champion, or all versions that were promoted after `to`, and return the new champion.

        A version that was rolled back is not promoted again unless you name it as `to`.

        Raises:
            ReleaseError: as `rollback_target`.
        """
        target = self.rollback_target(to)
        for release in self.versions():
            if release.is_promoted and release.order > target.order:
                self.set_tags(release.version, {"rolled_back": "true"})
        self.set_tags(target.version, {"rolled_back": "false"})
        champion = self.set_champion_alias()
        assert champion is not None and champion.version == target.version
        return champion

    def _require_versions(self) -> list[Release]:
        """`versions`. Raises ReleaseError if there are none."""
        releases = self.versions()
        if not releases:
            raise ReleaseError(f"nothing is released as {self.model} yet: run `rec-assets bootstrap` first")
        return releases


def _format(releases: list[Release]) -> str:
    return ", ".join(f"{item.version} (as of {item.as_of})" for item in releases) or "none"


def _from_mlflow(version: Any) -> Release:
    tags = dict(version.tags)
    return Release(
        version=int(version.version),
        as_of=dt.date.fromisoformat(tags["as_of"]),
        **{name: dt.date.fromisoformat(tags[name]) for name in AS_OF_NAMES.values()},
        content=tags.get("content", ""),
        decision=tags.get("decision", ""),
        rolled_back=tags.get("rolled_back") == "true",
        run_id=version.run_id,
        tags=tags,
    )
