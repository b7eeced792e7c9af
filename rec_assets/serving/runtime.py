"""What a worker holds at a moment: the engine of the published index, and what it keeps of the online state.

A new index is loaded beside the old one and takes its place in one step. What can't be used is refused and said.
"""

from __future__ import annotations

import datetime as dt
import gc
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, InterfaceError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection

from rec_assets.recsys.data.forgetting import customer_digest
from rec_assets.recsys.rules.spec import Rules
from rec_assets.serving.engine import Engine
from rec_assets.serving.folder import IndexPointers, Published, ServingFolder
from rec_assets.serving.manifest import IndexUnreadable
from rec_assets.serving.online import Key, OnlineState
from rec_assets.serving.self_test import self_test
from rec_assets.serving.tables import AVAILABILITY, FORGOTTEN, KEYS
from rec_assets.serving.watched import WatchedFile
from rec_assets.small_file import one_line

LOOK_SECONDS = 0.5
"""Between two looks for a new index."""

PROBE_SECONDS = 5.0
"""Between two tries to write into the online state: a full disk shows in nothing else before an event is lost."""

_ROOM = 2**19
"""Bytes that must find room before events are taken again: as many as the longest batch has by default."""

_AGAIN_SECONDS = 30.0
"""Between two tries of an index that was refused: a disk may have failed for a moment only."""

_log = logging.getLogger(__name__)

T = TypeVar("T")


class DatabaseUnavailable(SQLAlchemyError):
    """The database didn't answer, or could not be written to, a moment ago, so it isn't asked."""


@dataclass(frozen=True)
class OnlineSnapshot:
    """What a worker keeps of the online state, as of its counters."""

    counters: dict[str, int]
    unavailable: frozenset[str]
    keys: dict[str, Key]
    forgotten: dict[str, dt.datetime]


class ServingRuntime:
    """The engine and the online state of one worker."""

    def __init__(self, folder: ServingFolder, online: OnlineState, rules: WatchedFile[Rules]) -> None:
        self.folder, self.online, self.rules = folder, online, rules
        self.engine: Engine | None = None
        self.others: dict[str, Engine] = {}
        """The indexes that experiments ask for, by the name or version they ask by."""
        self._refused: dict[Published, tuple[str, float]] = {}
        """Indexes that can't be used → why, and when each is tried again."""
        self._warnings: dict[str, str] = {}
        self._kept = OnlineSnapshot({}, frozenset(), {}, {})
        self._silent = False
        self._unwritable: str | None = None
        self._watched: dict[str, WatchedFile[Any]] = {"rules": rules}
        self._failed: dict[str, str] = {}
        """What couldn't be looked at, by name, and what went wrong."""
        self._stop = threading.Event()
        self._watchers = [
            # Each by itself: a file must not wait until an index has been tried, nor an index for a database.
            threading.Thread(target=self._watch, args=(self._look_at_files,), name="file-watcher", daemon=True),
            threading.Thread(target=self._watch, args=(self._look_for_indexes,), name="index-watcher", daemon=True),
            threading.Thread(target=self._watch_database, name="database-watcher", daemon=True),
        ]

    def start(self) -> None:
        """Load what is published, and watch for what comes."""
        with suppress(SQLAlchemyError):
            self.write(self.online.create)
        self.look()
        for each in self._watchers:
            each.start()

    def watch(self, name: str, file: WatchedFile[Any]) -> None:
        """Have another file looked at, too, as often as for a new index."""
        self._watched[name] = file

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        for each in self._watchers:
            if each.is_alive():
                each.join(timeout=5)
        self.online.close()

    def look(self) -> None:
        """Take what has changed: files, and the published indexes. What can't be read leaves the old one.

        Whatever goes wrong with one of them, the others are looked at.
        """
        self._look_at_files()
        self._look_for_indexes()

    def _look_at_files(self) -> None:
        for name, file in self._watched.items():
            self._look_at(name, file.look)
        self._look_at("rules of the indexes", self._keep_to_rules)

    def _look_for_indexes(self) -> None:
        self._look_at("indexes", self._look_at_indexes)

    def _look_at(self, name: str, look: Callable[[], object]) -> None:
        """Look at one thing; what goes wrong there is kept for `warnings`, and logged once."""
        try:
            look()
        except Exception as error:
            problem = one_line(f"{type(error).__name__}: {error}")
            if self._failed.get(name) != problem:
                _log.exception("looking at the %s failed; it is tried again", name)
            self._failed[name] = problem
        else:
            self._failed.pop(name, None)

    def _keep_to_rules(self) -> None:
        for engine in {each for each in (self.engine, *self.others.values()) if each is not None}:
            if engine.answerer.rules is not self.rules.value:
                engine.keep_to(self.rules.value)

    def _look_at_indexes(self) -> None:
        pointed = self.folder.pointed()
        self._look_at_current(pointed)
        self._look_at_others(pointed.others)
        self._warn(self._found_wrong(pointed))

    def _look_at_current(self, pointed: IndexPointers) -> None:
        """Take the current index; where it is refused and nothing is held, the newest of those before that is not."""
        if pointed.current is None:
            return
        for published in (pointed.current, *(pointed.before if self.engine is None else ())):
            if self.engine is not None and self.engine.published == published:
                return
            engine = self._loaded(published)
            if engine is not None:
                self.engine = engine
                del engine
                _collect()
                _log.info("answering from %s", published.path.name)
                return

    def _look_at_others(self, wanted: Mapping[str, Published]) -> None:
        found = {name: engine for name, each in wanted.items() if (engine := self._loaded(each)) is not None}
        if found != self.others:
            self.others = found
            _collect()

    def _loaded(self, published: Published) -> Engine | None:
        """The engine of an index, held already or new; None where it is refused, now or a moment ago."""
        for engine in (self.engine, *self.others.values()):
            if engine is not None and engine.published == published:
                return engine
        if published in self._refused and time.monotonic() < self._refused[published][1]:
            return None
        try:
            self_test(published.path)
            engine = Engine(published, self.rules.value)
        except Exception as error:
            why = str(error) if isinstance(error, IndexUnreadable) else f"{type(error).__name__}: {error}"
            self._refused[published] = why, time.monotonic() + _AGAIN_SECONDS
            return None
        self._refused.pop(published, None)
        return engine

    def _found_wrong(self, pointed: IndexPointers) -> dict[str, str]:
        """What is wrong with what is published, in words by name."""
        wrong = {"current.json": pointed.damage} if pointed.damage else {}
        wanted = {f"index of {name}": each for name, each in pointed.others.items()}
        if pointed.current is not None:
            wanted["index"] = pointed.current
        held = {each.published for each in (self.engine, *self.others.values()) if each is not None}
        for name, published in wanted.items():
            if published in self._refused and published not in held:
                wrong[name] = self._refused[published][0]
        self._refused = {
            each: why for each, why in self._refused.items() if each in {*wanted.values(), *pointed.before}
        }
        return wrong

    def _warn(self, wrong: dict[str, str]) -> None:
        """Note what is wrong; the log says it once, and says when it is over."""
        for name, why in wrong.items():
            if self._warnings.get(name) != why:
                _log.error("%s: %s", name, why)
        for name in self._warnings.keys() - wrong.keys():
            _log.info("%s: in order again", name)
        self._warnings = wrong

    def beside(self, engine: Engine) -> dict[str, Engine]:
        """The indexes that may be compared with one: those of its day, which know as much of the shop."""
        day = engine.published.as_of
        return {name: each for name, each in self.others.items() if each.published.as_of == day}

    def kept(self) -> OnlineSnapshot:
        """What is kept of the online state, up to date; as it last was where the database doesn't answer."""
        try:
            return self.ask(self._look_at_online)
        except SQLAlchemyError:
            return self._kept

    def ask(self, question: Callable[[], T]) -> T:
        """What the online state says.

        Once it hasn't answered, nobody else waits for it before the watcher has found it answering again: a database
        that hangs must not hold up what is answered without it.

        Raises:
            SQLAlchemyError: it doesn't answer.
        """
        if self._silent:
            raise DatabaseUnavailable
        try:
            return question()
        except (DatabaseError, InterfaceError, NoConnection) as error:
            if isinstance(error, _OF_THE_VALUES):
                raise
            _log.error("the online state doesn't answer (%s); what was last known of it goes on to count", _why(error))
            self._silent = True
            raise

    def write(self, change: Callable[[], T]) -> T:
        """Change the online state; `ask` goes on while only that fails, as on a full disk.

        Once nothing could be written, nobody else waits for it before the watcher could write again.

        Raises:
            SQLAlchemyError: it can't be changed; nothing was.
        """
        if self._silent or self._unwritable:
            raise DatabaseUnavailable
        try:
            return change()
        except (DatabaseError, InterfaceError, NoConnection) as error:
            if not isinstance(error, _OF_THE_VALUES):
                self._note_unwritable(error)
            raise

    def _note_unwritable(self, error: Exception) -> None:
        why = _why(error)
        if why != self._unwritable:
            _log.error("the online state can't be written to (%s): events are refused until it can", why)
        self._unwritable = why

    def _look_at_online(self) -> OnlineSnapshot:
        last, now = self._kept, self.online.counters()
        if now != last.counters:

            def fresh(name: str, read: Callable[[], T], old: T) -> T:
                return read() if now.get(name) != last.counters.get(name) else old

            last = self._kept = OnlineSnapshot(
                now,
                fresh(AVAILABILITY, self.online.unavailable, last.unavailable),
                fresh(KEYS, self.online.keys, last.keys),
                fresh(FORGOTTEN, self.online.forgotten, last.forgotten),
            )
        return last

    def is_forgotten(self, engine: Engine, customer_id: str, kept: OnlineSnapshot) -> bool:
        """Whether what the index knows of a customer is what they asked to be forgotten."""
        at = kept.forgotten.get(customer_digest(customer_id)) if kept.forgotten else None
        return at is not None and at.astimezone(engine.zone).date() >= engine.published.as_of

    def ready(self) -> dict[str, Any]:
        """What is missing to answer, in words by name; empty where nothing is."""
        missing = {}
        if self.engine is None:
            missing["index"] = (
                self._warnings.get("index")
                or self._warnings.get("current.json")
                or (
                    "no index is published yet: run `rec-assets bootstrap`, which materializes the graph up to "
                    "`serving_index`, on this REC_HOME"
                )
            )
        if not self.rules.is_read:
            missing["rules"] = f"{self.rules.problem}; recommendations are answered once they can be read"
        try:
            self.ask(self._look_at_online)
        except SQLAlchemyError:
            missing["online_state"] = (
                "the database doesn't answer, and the log says why: a file of SQLite lies in the folder `serving` of "
                "REC_HOME, which must be writable; another database is named by REC_API__DATABASE_URL"
            )
        return missing

    def warnings(self) -> dict[str, str]:
        """What doesn't keep requests from being answered but should be looked at, in words by name."""
        found = dict(self._warnings)
        if "index" in found and self.engine is not None:
            found["index"] = f"answers are from {self.engine.published.path.name}: {found['index']}"
        for name, problem in list(self._failed.items()):
            found[name] = f"looking at it fails: {problem}"
        for name, file in self._watched.items():
            if file.problem is not None:
                found[name] = f"{file.problem}; {file.consequence}"
        if self._unwritable is not None:
            found["events"] = (
                "the database can't be written to, and the log says why: events, changes of stock and requests to be "
                "forgotten are refused with 503 until it can; look at its disk's free space and at who holds its lock"
            )
        return found

    def _watch(self, look: Callable[[], None]) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            look()

    def _watch_database(self) -> None:
        probed = time.monotonic()
        while not self._stop.wait(LOOK_SECONDS):
            is_due = time.monotonic() - probed >= PROBE_SECONDS
            if self._silent or self._unwritable or is_due:
                probed = time.monotonic()
                self._look_at("online state", self._look_at_database)

    def _look_at_database(self) -> None:
        """See whether it can be written to, and whether one that didn't answer does again."""
        try:
            self.online.create()  # it may have come back empty
            # One small write may still find room on a full disk where a batch of events doesn't.
            self.online.check_writable(_ROOM if self._unwritable else 0)
        except SQLAlchemyError as error:
            self._note_unwritable(error)
        else:
            if self._unwritable:
                _log.info("the online state can be written to again")
            self._unwritable = None
        if self._silent:
            with suppress(SQLAlchemyError):
                self.online.counters()
                self.online.oldest_event()  # the tables of events, which may be locked alone
                self._silent = False
                _log.info("the online state answers again")


_OF_THE_VALUES = (DataError, IntegrityError)
"""Errors that tell of what was asked for, and not of the database."""


def _collect() -> None:
    """Let go of old engines now: they refer to themselves. What stays isn't looked through again while answers wait."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _why(error: Exception) -> str:
    """The first line of an error, without the statement's parameters: customers' ids."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0] or type(error).__name__
