"""Loads published indexes: the current one, and those that experiments compare with it.

A new index replaces the old one in one step, after its self-test. An index that fails is skipped and retried later.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Mapping

from rec_assets.recsys.rules.rules_file import RuleSets
from rec_assets.serving.engine import Engine
from rec_assets.serving.index_files.folder import IndexPointers, PublishedIndex, ServingFolder
from rec_assets.serving.index_files.manifest import IndexUnreadable
from rec_assets.serving.index_files.self_test import self_test

RETRY_SECONDS = 30.0
"""Interval for loading a failed index again: the disk may have failed only for a moment."""

_log = logging.getLogger(__name__)


class IndexLoader:
    """The loaded indexes of one worker.

    Attributes:
        engine: The engine of the current index; None before the first.
        experiment_engines: For experiments, by the model name or version in the experiment.
        warnings: Problems with the published indexes, by name.
    """

    def __init__(self, folder: ServingFolder) -> None:
        self.folder = folder
        self.engine: Engine | None = None
        self.experiment_engines: dict[str, Engine] = {}
        self.warnings: dict[str, str] = {}
        self._failed: dict[PublishedIndex, tuple[str, float]] = {}  # with the reason and the time of the next attempt

    def refresh(self, rules: RuleSets) -> None:
        """Load indexes that were published since the last call."""
        pointers = self.folder.pointers()
        self._load_current(pointers, rules)
        self._load_experiments(pointers.experiment_indexes, rules)
        self._set_warnings(self._find_problems(pointers))

    def use_rules(self, rules: RuleSets) -> None:
        """Replace the rules of all engines, if they changed."""
        for engine in self._engines():
            if engine.responder.rule_sets is not rules:
                engine.use_rules(rules)

    def comparable(self, engine: Engine) -> dict[str, Engine]:
        """Engines for experiments with the same as-of day as `engine`, by name. Others know more or less data."""
        day = engine.published.as_of
        return {name: each for name, each in self.experiment_engines.items() if each.published.as_of == day}

    def _engines(self) -> set[Engine]:
        return {each for each in (self.engine, *self.experiment_engines.values()) if each is not None}

    def _load_current(self, pointers: IndexPointers, rules: RuleSets) -> None:
        """Load the current index. If it fails and no index is loaded, load the newest previous one that works."""
        if pointers.current is None:
            return
        for published in (pointers.current, *(pointers.previous if self.engine is None else ())):
            if self.engine is not None and self.engine.published == published:
                return
            if (engine := self._load(published, rules)) is not None:
                self.engine = engine
                del engine
                _collect_garbage()
                _log.info("serving the index %s", published.path.name)
                return

    def _load_experiments(self, wanted: Mapping[str, PublishedIndex], rules: RuleSets) -> None:
        loaded = {name: engine for name, each in wanted.items() if (engine := self._load(each, rules)) is not None}
        if loaded != self.experiment_engines:
            self.experiment_engines = loaded
            _collect_garbage()

    def _load(self, published: PublishedIndex, rules: RuleSets) -> Engine | None:
        """The engine of an index, loaded already or now; None if it fails, or failed a moment ago."""
        for engine in self._engines():
            if engine.published == published:
                return engine
        if published in self._failed and time.monotonic() < self._failed[published][1]:
            return None
        try:
            self_test(published.path)
            engine = Engine(published, rules)
        except Exception as error:
            reason = str(error) if isinstance(error, IndexUnreadable) else f"{type(error).__name__}: {error}"
            self._failed[published] = reason, time.monotonic() + RETRY_SECONDS
            return None
        self._failed.pop(published, None)
        return engine

    def _find_problems(self, pointers: IndexPointers) -> dict[str, str]:
        problems = {"current.json": pointers.damage} if pointers.damage else {}
        wanted = {f"index of {name}": each for name, each in pointers.experiment_indexes.items()}
        wanted |= {"index": pointers.current} if pointers.current else {}
        loaded = {each.published for each in self._engines()}
        for name, published in wanted.items():
            if published in self._failed and published not in loaded:
                problems[name] = self._failed[published][0]
        named = {*wanted.values(), *pointers.previous}
        self._failed = {published: failure for published, failure in self._failed.items() if published in named}
        return problems

    def _set_warnings(self, problems: dict[str, str]) -> None:
        """Log each new problem once, and when it is solved."""
        for name, problem in problems.items():
            if self.warnings.get(name) != problem:
                _log.error("%s: %s", name, problem)
        for name in self.warnings.keys() - problems.keys():
            _log.info("%s: the problem is solved", name)
        self.warnings = problems


def _collect_garbage() -> None:
    """Free old engines now, because they are in reference cycles.

    Freezing keeps later collections from scanning the remaining objects while requests wait.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
