"""Releases: what the MLflow model registry knows of every version, and which one is in force.

A version is proposed with its tags, decided upon once (promoted or rejected), and may be rolled back later. The alias
`champion` follows from that: it is the newest promoted version that wasn't rolled back.
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

from rec_assets.recsys.recipe import Recipe
from rec_assets.resources.mlflow_store import prepare_store
from rec_assets.sqlite import sqlite_file

CHAMPION, CHALLENGER = "champion", "challenger"
PROMOTED, REJECTED = "promoted", "rejected"


class ReleaseError(RuntimeError):
    """There is no such release to go back to; the message says which there are."""


@dataclass(frozen=True)
class Release:
    """One version in the registry.

    Attributes:
        version: Its number.
        as_of: The day on which it was proposed; it knows nothing later.
        als_version, graph_version, ranker_version: As-of days of the models in it.
        content: SHA-256 of the models and the recipe: the same models proposed again have the same.
        decision: "promoted", "rejected", or "" while undecided.
        rolled_back: Whether it was taken back after its promotion.
        run_id: The MLflow run that logged it.
        tags: All tags, as MLflow has them.
    """

    version: int
    as_of: dt.date
    als_version: dt.date
    graph_version: dt.date
    ranker_version: dt.date
    content: str
    decision: str
    rolled_back: bool
    run_id: str
    tags: Mapping[str, str]

    @property
    def recipe(self) -> Recipe:
        """What its models were trained and are scored with; of what this version added since, the defaults.

        Raises:
            ReleaseError: this version can't read it.
        """
        try:
            return Recipe.stored(json.loads(self.tags["recipe"]))
        except ValueError as error:
            raise ReleaseError(
                f"the recipe of version {self.version} can't be read by this version of rec_assets: go back to another "
                f"release with `rec-assets rollback --to VERSION`, or to the code that it was made with, commit "
                f"{self.tags.get('git_commit') or 'unknown'} (docs/operations.md, Upgrading): {error}"
            ) from None

    @property
    def models(self) -> dict[str, str]:
        """As-of days of the models, named as the columns and metadata are that tell which models were used."""
        return {name: str(getattr(self, name)) for name in ("als_version", "graph_version", "ranker_version")}

    def version_of(self, model: str) -> dt.date:
        """As-of day of the model of that asset: als_model, co_purchase_graph or ranker."""
        days = {"als_model": self.als_version, "co_purchase_graph": self.graph_version, "ranker": self.ranker_version}
        return days[model]

    @property
    def may_serve(self) -> bool:
        """Whether it was promoted and stands."""
        return self.decision == PROMOTED and not self.rolled_back


class Releases:
    """The versions of one registered model.

    Args:
        uri: MLflow's tracking and registry server.
        model: Name of the registered model.
    """

    def __init__(self, uri: str, model: str) -> None:
        self.uri, self.model = uri, model
        # A Databricks workspace keeps models in Unity Catalog; elsewhere the tracking server is the registry, too.
        self.in_unity_catalog = uri.partition("://")[0] == "databricks"
        self.registry_uri = uri.replace("databricks", "databricks-uc", 1) if self.in_unity_catalog else uri

    @property
    def client(self) -> Any:
        """MLflow's client of that server."""
        from mlflow import MlflowClient

        prepare_store(self.uri)
        return MlflowClient(self.uri, self.registry_uri)

    @property
    def _is_there(self) -> bool:
        """Whether there is a registry to look into: looking would make the file of SQLite."""
        file = sqlite_file(self.uri)
        return file is None or file.exists()

    def all(self) -> list[Release]:
        """Every version that rec_assets proposed, oldest first; none where the model was never registered."""
        if not self._is_there:
            return []
        client = self.client
        versions = client.search_model_versions(f"name = '{self.model}'", max_results=10_000)
        if self.in_unity_catalog:  # whose listings leave tags out
            versions = [client.get_model_version(self.model, each.version) for each in versions]
        return sorted((_release(each) for each in versions if "as_of" in each.tags), key=lambda each: each.version)

    def get(self, version: int) -> Release:
        """One version.

        Raises:
            ReleaseError: there is none of that number.
        """
        found = self._released()
        for release in found:
            if release.version == version:
                return release
        raise ReleaseError(f"{self.model} has no version {version}; there are: {self._listing(found)}")

    def known(self, name: str) -> Release:
        """The version of that number or alias.

        Raises:
            ReleaseError: there is none.
        """
        there = self._listing(self._released())
        release = self.named(name)
        if release is None:
            raise ReleaseError(f"{self.model} has no version or alias {name!r}; there are: {there}")
        return release

    def named(self, name: str) -> Release | None:
        """The version of that number or alias; None if there is none."""
        from mlflow.exceptions import MlflowException

        if not self._is_there:
            return None
        try:
            number = name if name.isdecimal() else self.client.get_model_version_by_alias(self.model, name).version
        except MlflowException:
            return None
        return next((each for each in self.all() if each.version == int(number)), None)

    def find(self, *, content: str, as_of: dt.date) -> Release | None:
        """The version of these models and this day, if it was proposed already."""
        return next((each for each in self.all() if each.content == content and each.as_of == as_of), None)

    def verdict(self, day: dt.date) -> str:
        """What became of the newest version proposed on a day, in words; "" where none was."""
        proposed = max((each for each in self.all() if each.as_of == day), key=lambda each: each.version, default=None)
        if proposed is None:
            return ""
        champion = self.in_force(day)
        stays = f"; version {champion.version} stays" if champion and champion.version != proposed.version else ""
        reasons = f": {proposed.tags['reasons']}" if proposed.decision == REJECTED else ""
        return f"version {proposed.version} was {proposed.decision or 'not decided upon'}{reasons}{stays}"

    def taken_back(self, release: Release) -> int | None:
        """The version with the same models that was rolled back; None if there is none."""
        same = [each.version for each in self.all() if each.content == release.content and each.rolled_back]
        return max(same, default=None)

    def in_force(self, day: dt.date | None = None) -> Release | None:
        """The champion, or the one of a past day: the newest promoted by then of those that stand; None before all."""
        standing = [each for each in self.all() if each.may_serve and (day is None or each.as_of <= day)]
        return max(standing, key=lambda each: (each.as_of, each.version), default=None)

    def inputs(self, release: Release) -> dict[str, dict[str, Any]]:
        """Table → day → fingerprint, and landed files, of all that a release was made from."""
        with tempfile.TemporaryDirectory() as folder:
            path = self.client.download_artifacts(release.run_id, "inputs.json", folder)
            found: dict[str, dict[str, Any]] = json.loads(Path(path).read_text())
            return found

    def fetch_index(self, release: Release, folder: Path) -> None:
        """Copy the index that a release was registered with into a new folder."""
        import mlflow

        prepare_store(self.uri)
        mlflow.set_tracking_uri(self.uri)
        with tempfile.TemporaryDirectory() as download:
            uri = f"models:/{self.model}/{release.version}"
            found = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=download)
            shutil.copytree(Path(found) / "artifacts" / "index", folder)

    def replace_index(self, release: Release, folder: Path) -> None:
        """Put the index in a folder in the place of the one that a release was registered with."""
        version = self.client.get_model_version(self.model, str(release.version))
        model = version.source.removeprefix("models:/")  # a version says by its source which logged model it is
        self.client.log_model_artifacts(model, str(folder), "artifacts/index")

    def before(self, day: dt.date) -> Release | None:
        """The champion that a release of this day is held against; its own, if there was none before.

        A release made on the day itself doesn't count: a flow that was killed after its promotion goes on as it began.
        """
        return self.in_force(day - dt.timedelta(days=1)) or self.in_force(day)

    def propose(self, version: int, tags: Mapping[str, object]) -> Release:
        """Tag a version just registered and give it the alias `challenger`."""
        self.tag(version, tags)
        release = self.get(version)
        self.mark_challenger(release)
        return release

    def mark_challenger(self, release: Release) -> None:
        """Set the alias `challenger`."""
        self.client.set_registered_model_alias(self.model, CHALLENGER, str(release.version))

    def tag(self, version: int, tags: Mapping[str, object]) -> None:
        """Set tags of a version; `as_of`, by which a version is known as a release, last."""
        client = self.client
        for name, value in sorted(tags.items(), key=lambda item: item[0] == "as_of"):
            client.set_model_version_tag(self.model, str(version), name, str(value))

    def decide(self, version: int, decision: str, tags: Mapping[str, object]) -> None:
        """Promote or reject a version, with what speaks for that; the alias follows."""
        self.tag(version, {**tags, "decision": decision})
        self.point_champion()

    def point_champion(self) -> Release | None:
        """Set the alias `champion` to the version in force; returns it."""
        release = self.in_force()
        if release is not None:
            self.client.set_registered_model_alias(self.model, CHAMPION, str(release.version))
        return release

    def rollback_target(self, to: int | None = None) -> Release:
        """The version that a rollback would go back to: the one before the champion, or `to`.

        Raises:
            ReleaseError: nothing to go back to, or `to` was never promoted.
        """
        releases = self._released()
        standing = [each for each in releases if each.may_serve]
        if to is None:
            if len(standing) < 2:
                raise ReleaseError(
                    f"{self.model} has no earlier version to go back to; promoted and standing: "
                    f"{self._listing(standing)}"
                )
            order = sorted(standing, key=lambda each: (each.as_of, each.version))
            to = order[-2].version
        target = self.get(to)
        if target.decision != PROMOTED:
            raise ReleaseError(
                f"{self.model} version {to} was {target.decision or 'never decided upon'}, so it can't be gone back "
                f"to; promoted: {self._listing([each for each in releases if each.decision == PROMOTED])}"
            )
        return target

    def roll_back(self, to: int | None = None) -> Release:
        """Take back the champion, or all versions promoted after `to`; returns the new champion.

        A version taken back is not promoted again unless it is itself named as `to`.

        Raises:
            ReleaseError: as `rollback_target`.
        """
        target = self.rollback_target(to)
        for each in self.all():
            if each.may_serve and (each.as_of, each.version) > (target.as_of, target.version):
                self.tag(each.version, {"rolled_back": "true"})
        self.tag(target.version, {"rolled_back": "false"})
        champion = self.point_champion()
        assert champion is not None and champion.version == target.version
        return champion

    def _released(self) -> list[Release]:
        """`all`. Raises ReleaseError where there is none."""
        found = self.all()
        if not found:
            raise ReleaseError(f"nothing is released as {self.model} yet: run `rec-assets bootstrap` first")
        return found

    @staticmethod
    def _listing(releases: list[Release]) -> str:
        return ", ".join(f"{each.version} (as of {each.as_of})" for each in releases) or "none"


def _release(version: Any) -> Release:
    tags = version.tags
    day = dt.date.fromisoformat
    return Release(
        version=int(version.version),
        as_of=day(tags["as_of"]),
        als_version=day(tags["als_version"]),
        graph_version=day(tags["graph_version"]),
        ranker_version=day(tags["ranker_version"]),
        content=tags.get("content", ""),
        decision=tags.get("decision", ""),
        rolled_back=tags.get("rolled_back") == "true",
        run_id=version.run_id,
        tags=dict(tags),
    )
