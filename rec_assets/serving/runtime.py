"""What one worker serves: the loaded indexes, the watched files and the online state. Background threads refresh it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from rec_assets.files import one_line
from rec_assets.recsys.data.forgetting import customer_digest
from rec_assets.recsys.experiments.experiments_file import Experiments
from rec_assets.recsys.rules.rules_file import RuleSets
from rec_assets.serving.database.guard import DatabaseGuard, OnlineSnapshot
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.serving.engine import Engine
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.index_loader import IndexLoader
from rec_assets.serving.watched_file import WatchedFile

REFRESH_SECONDS = 0.5
"""Interval for checking files and published indexes."""

PROBE_SECONDS = 5.0
"""Interval for testing a write to the online state. It detects a full disk before an event is lost."""

_log = logging.getLogger(__name__)


class ServingRuntime:
    """State of one worker. Responses access the `online` state through `database_guard`."""

    def __init__(
        self, folder: ServingFolder, online: OnlineState, rules: WatchedFile[RuleSets],
        experiments: WatchedFile[Experiments],
    ) -> None:  # fmt: skip
        self.indexes, self.online, self.rules, self.experiments = IndexLoader(folder), online, rules, experiments
        self.database_guard = DatabaseGuard(online)
        self._files: dict[str, WatchedFile[Any]] = {"rules": rules, "experiments": experiments}
        self._errors: dict[str, str] = {}  # what could not be refreshed → error
        self._stop = threading.Event()
        self._threads = [
            # Separate threads: a file must not wait for the self-test of an index, nor an index for the database.
            threading.Thread(target=self._repeat, args=(self._refresh_files,), name="file-watcher", daemon=True),
            threading.Thread(target=self._repeat, args=(self._refresh_indexes,), name="index-watcher", daemon=True),
            threading.Thread(target=self._watch_database, name="database-watcher", daemon=True),
        ]

    @property
    def engine(self) -> Engine | None:
        """The engine of the current index; None before the first."""
        return self.indexes.engine

    def start(self) -> None:
        """Load what is published, and start the background threads."""
        with suppress(SQLAlchemyError):
            self.database_guard.write(self.online.create)
        self.refresh()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the background threads and close the database."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5)
        self.online.close()

    def refresh(self) -> None:
        """Read changed files and load new indexes. An error in one of them does not stop the others."""
        self._refresh_files()
        self._refresh_indexes()

    def is_forgotten(self, engine: Engine, customer_id: str, online_snapshot: OnlineSnapshot) -> bool:
        """Whether a customer asked to be forgotten, and the index still has their history from before."""
        forgotten = online_snapshot.forgotten
        at = forgotten.get(customer_digest(customer_id)) if forgotten else None
        return at is not None and at.astimezone(engine.zone).date() >= engine.published.as_of

    def missing(self) -> dict[str, Any]:
        """What prevents responses, by name; empty if the worker is ready."""
        missing = {}
        if self.engine is None:
            warnings = self.indexes.warnings
            missing["index"] = warnings.get("index") or warnings.get("current.json") or (
                "no index is published yet: run `rec-assets bootstrap`, which materializes all assets up to "
                "`serving_index`, with the same REC_HOME"
            )  # fmt: skip
        if not self.rules.is_read:
            missing["rules"] = f"{self.rules.problem}; the API sends no recommendations until this is fixed"
        try:
            self.database_guard.check()
        except SQLAlchemyError:
            missing["online_state"] = (
                "the database does not respond; see the log for the reason. A SQLite file is in the folder `serving` "
                "of REC_HOME, which must be writable; REC_API__DATABASE_URL names any other database"
            )
        return missing

    def warnings(self) -> dict[str, str]:
        """Problems that do not prevent responses, by name."""
        warnings = dict(self.indexes.warnings)
        if "index" in warnings and self.engine is not None:
            warnings["index"] = f"serving the older index {self.engine.published.path.name}: {warnings['index']}"
        for name, error in list(self._errors.items()):
            warnings[name] = f"refreshing fails: {error}"
        for name, file in self._files.items():
            if file.problem is not None:
                warnings[name] = f"{file.problem}; {file.consequence}"
        if self.database_guard.write_error is not None:
            warnings["events"] = (
                "the database is not writable; see the log for the reason. The API rejects events, changes of "
                "availability and erasure requests with 503 until it is. Check the free disk space, and which process "
                "holds a lock"
            )
        return warnings

    def _refresh_files(self) -> None:
        for name, file in self._files.items():
            self._try(name, file.refresh)
        self._try("rules of the indexes", lambda: self.indexes.use_rules(self.rules.value))

    def _refresh_indexes(self) -> None:
        self._try("indexes", lambda: self.indexes.refresh(self.rules.value))

    def _try(self, name: str, refresh: Callable[[], object]) -> None:
        """Refresh one thing. Keep an error for `warnings`, and log it once."""
        try:
            refresh()
        except Exception as error:
            problem = one_line(f"{type(error).__name__}: {error}")
            if self._errors.get(name) != problem:
                _log.exception("refreshing %s failed; the API tries again", name)
            self._errors[name] = problem
        else:
            self._errors.pop(name, None)

    def _repeat(self, refresh: Callable[[], None]) -> None:
        while not self._stop.wait(REFRESH_SECONDS):
            refresh()

    def _watch_database(self) -> None:
        last_probe = time.monotonic()
        while not self._stop.wait(REFRESH_SECONDS):
            is_due = time.monotonic() - last_probe >= PROBE_SECONDS
            if self.database_guard.is_unavailable or self.database_guard.write_error or is_due:
                last_probe = time.monotonic()
                self._try("online state", self.database_guard.probe)
