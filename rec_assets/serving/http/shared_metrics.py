"""The sum of the metrics of all workers. They exchange their metrics through files in a folder of the server.

A worker counts in memory, and a background thread writes the file once a second, so that no request waits for the disk.
If the folder is not writable, each worker reports only its own metrics.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from rec_assets.serving.http.metrics import Metrics

FOLDER_VARIABLE = "_REC_ASSETS_METRICS"
"""Environment variable with the path of the folder, which the server sets for its workers."""

_PREFIX = "rec_assets-metrics-"
_WRITE_SECONDS = 1.0
_UNLOCKED_SECONDS = 60.0

_log = logging.getLogger(__name__)


@contextmanager
def shared_folder(workers: int) -> Iterator[Path | None]:
    """A temporary folder for the metrics of a server's workers; None for a single worker or if it can't be created.

    The folder is deleted at the end. Servers delete the folders of servers that were killed: those without a held lock.
    """
    parent, folder, lock = Path(tempfile.gettempdir()), None, None
    _delete_abandoned(parent)
    if workers == 1:
        yield None
        return
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = (folder / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        _log.warning("can't create a folder for metrics in %s (%s): each worker reports its own", parent, error)
    try:
        yield folder if lock else None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            lock.close()


def _delete_abandoned(parent: Path) -> None:
    """Delete folders of servers that no longer run."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            with (folder / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:  # its server is just starting, or died while it started
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > _UNLOCKED_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass  # its server runs, or the folder belongs to another user


class SharedMetrics(Collector):
    """The sum of a worker's metrics and those of the other workers.

    A new worker takes over the file of one that died, so that no counts are lost and there is one file per worker.
    """

    def __init__(
        self, metrics: Metrics, refresh: Callable[[], None], environment: Mapping[str, str] = os.environ
    ) -> None:
        """`refresh` sets the gauges before they are reported.

        FOLDER_VARIABLE is not set for a single worker, and "" if the folder could not be created.
        """
        self._metrics, self._refresh = metrics, refresh
        folder = environment.get(FOLDER_VARIABLE)
        self._file = Path(folder) / f"{os.getpid()}-{uuid.uuid4().hex}.prom" if folder else None
        self._inherited: list[Metric] = []
        self._others: dict[Path, tuple[int, list[Metric]]] = {}  # with the modification time of the file
        self._is_shared = folder != ""
        self._stop = threading.Event()
        self._writer = threading.Thread(target=self._write_repeatedly, name="metrics-writer", daemon=True)

    def start(self) -> None:
        """Start to write the file."""
        if self._file is not None:
            self._inherited = _inherit(self._file)
            self._writer.start()

    def stop(self) -> None:
        """Write the file a last time."""
        if self._file is not None:
            self._stop.set()
            self._writer.join(timeout=5)
            self.write()

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        self._refresh()
        text = generate_latest(self)
        if not self._is_shared:
            text += b"# Metrics of this worker only: the folder of all workers' metrics can't be used; see the log.\n"
        return text

    def collect(self) -> Iterable[Metric]:
        """Sums over all workers. Gauges are those of this worker."""
        return _sum([*self._read_others(), self._own_metrics()])

    def write(self) -> None:
        """Write this worker's metrics to its file, atomically."""
        if self._file is None:
            return
        self._refresh()
        staged = self._file.with_suffix(".new")
        try:
            staged.write_bytes(generate_latest(_FixedCollector(self._own_metrics())))
            staged.replace(self._file)
        except OSError as error:
            with suppress(OSError):
                staged.unlink(missing_ok=True)
            self._set_error(str(error))
        else:
            self._set_error(None)

    def _write_repeatedly(self) -> None:
        while not self._stop.wait(_WRITE_SECONDS):
            self.write()

    def _own_metrics(self) -> list[Metric]:
        return _sum([self._inherited, self._metrics.registry.collect()])

    def _read_others(self) -> list[list[Metric]]:
        """Metrics of the other workers, the oldest file first. A file is parsed only if it changed."""
        known: dict[Path, tuple[int, list[Metric]]] = {}
        for path in self._file.parent.glob("*.prom") if self._file else ():
            with suppress(OSError, ValueError):  # another worker has just taken it over, or the disk fails
                written = path.stat().st_mtime_ns
                parsed = self._others.get(path)
                if path != self._file:
                    known[path] = parsed if parsed and parsed[0] == written else (written, _read(path))
        self._others = known
        return [metrics for _, metrics in sorted(known.values(), key=lambda each: each[0])]

    def _set_error(self, error: str | None) -> None:
        if error and self._is_shared:
            _log.warning("can't share metrics with the other workers: %s", error)
        elif not error and not self._is_shared:
            _log.info("sharing metrics with the other workers again")
        self._is_shared = error is None


class _FixedCollector(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _read(path: Path) -> list[Metric]:
    return list(text_string_to_metric_families(path.read_text()))


def _inherit(file: Path) -> list[Metric]:
    """Take over the file of a worker that died; returns its metrics."""
    for other in file.parent.glob("*.prom"):
        if not psutil.pid_exists(int(other.name.partition("-")[0])):
            with suppress(OSError, ValueError):
                other.rename(file)
                return _read(file)
    return []


def _sum(workers: Iterable[Iterable[Metric]]) -> list[Metric]:
    """Sums of counters and histograms, and the last value of gauges."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for metrics in workers:
        for metric in metrics:
            families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            samples = values.setdefault(metric.name, {})
            for sample in metric.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                total = 0.0 if metric.type == "gauge" else samples.get(key, 0.0)
                samples[key] = total + sample.value
    for name, family in families.items():
        for (sample_name, labels), value in values[name].items():
            family.add_sample(sample_name, dict(labels), value)
    return list(families.values())
