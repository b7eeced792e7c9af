"""Event log: Dagster's own in SQLite, which stores the events of a batch in one transaction.

A run over a year materializes a year of partitions. Dagster opens two databases for each of these events, which takes
as long as reading the purchase logs. It can hand over all events of a step at once (DAGSTER_EVENT_BATCH_SIZE), but its
storage in SQLite then stores them one by one. DAGSTER_HOME/dagster.yaml names this class. If a batch fails, Dagster
stores its events one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster import StringSource
from dagster._core.events import ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData

BATCH_SIZE = 2000
"""Events of a transaction."""


class BatchedEventLog(SqliteEventLogStorage):
    """Dagster's event log in SQLite, below the folder `home` of the instance."""

    @classmethod
    def config_type(cls) -> Any:
        """The folder of the instance."""
        return {"home": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> BatchedEventLog:
        """The log in the place where Dagster has it by default."""
        values: Mapping[str, str] = config_value
        return cls(str(Path(values["home"]) / "history" / "runs"), inst_data)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events as `store_event` does: asset events in the database of the run, and in that of all runs."""
        of_assets = [event for event in events if event.is_dagster_event and event.dagster_event_type in ASSET_EVENTS]
        for run_id in dict.fromkeys(event.run_id for event in of_assets):
            self._store_asset_events(run_id, [event for event in of_assets if event.run_id == run_id])
        is_stored = {id(event) for event in of_assets}
        for event in events:
            if id(event) not in is_stored:
                self.store_event(event)

    def _store_asset_events(self, run_id: str, events: Sequence[EventLogEntry]) -> None:
        statements = [self.prepare_insert_event(event) for event in events]
        with self.run_connection(run_id) as connection:
            for statement in statements:
                connection.execute(statement)
        newest: dict[Any, tuple[EventLogEntry, int]] = {}
        with self.index_transaction() as connection:
            numbers = []
            for event, statement in zip(events, statements, strict=True):
                key = connection.execute(statement).inserted_primary_key
                assert key is not None
                numbers.append(key[0])
                newest[event.get_dagster_event().asset_key, event.dagster_event_type] = event, key[0]
            self._store_asset_event_tags(connection, list(events), numbers)
            for event, number in newest.values():
                self._store_asset_event(connection, event, number)
