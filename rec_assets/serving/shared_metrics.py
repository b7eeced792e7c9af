"""The metrics of several workers as one: each tells the others its own through a folder of the server's.

Nothing that a request waits for touches the disk: a worker counts in its memory, and a thread writes that down once a
second. Where the folder can't be written, each worker tells its own alone and says so.
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

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from rec_assets.serving.metrics import Metrics

FOLDER_VARIABLE = "_REC_ASSETS_METRICS"
"""Environment variable by which a server tells its workers the folder."""

_PREFIX = "rec_assets-metrics-"
_WRITE_SECONDS = 1.0
_UNLOCKED_SECONDS = 60.0

_log = logging.getLogger(__name__)


@contextmanager
def shared_folder(workers: int) -> Iterator[Path | None]:
    """A folder for the metrics of a server's workers, under TMPDIR; None where none can be made, or one works alone.

    It is removed at the end. Its lock tells other servers that this one lives: they remove those of servers killed.
    """
    place, folder, lock = Path(tempfile.gettempdir()), None, None
    _sweep(place)
    if workers == 1:
        yield None
        return
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = (folder / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        _log.warning("%s has no room for the workers' metrics (%s): each worker tells its own", place, error)
    try:
        yield folder if lock else None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            lock.close()


def _sweep(place: Path) -> None:
    """Remove folders of servers that are no more."""
    for folder in place.glob(f"{_PREFIX}*"):
        try:
            with (folder / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:  # of a server that is just starting, or that died then
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > _UNLOCKED_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass  # its server lives, or it is somebody else's


class SharedMetrics(Collector):
    """A worker's metrics and those of the others in its folder, added up.

    A new worker goes on from the file of one that died, so that no counts are lost and the files stay as many as the
    workers.
    """

    def __init__(self, metrics: Metrics, look: Callable[[], None], environment: Mapping[str, str] = os.environ) -> None:
        """`look` brings gauges up to date; it is called before they are told.

        The environment names no folder where there are no other workers, and "" where none could be made.
        """
        self._metrics, self._look = metrics, look
        folder = environment.get(FOLDER_VARIABLE)
        self._file = Path(folder) / f"{os.getpid()}-{uuid.uuid4().hex}.prom" if folder else None
        self._before: list[Metric] = []
        self._others: dict[Path, tuple[int, list[Metric]]] = {}  # as read, and the file's time
        self._is_shared = folder != ""
        self._stop = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="metrics-writer", daemon=True)

    def start(self) -> None:
        """Begin to tell the other workers."""
        if self._file is not None:
            self._before = _inherit(self._file)
            self._writer.start()

    def stop(self) -> None:
        """Tell them a last time."""
        if self._file is not None:
            self._stop.set()
            self._writer.join(timeout=5)
            self.write()

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        self._look()
        text = generate_latest(self)
        if not self._is_shared:
            text += b"# Of this worker alone: the folder of all workers' metrics can't be used, the log says why.\n"
        return text

    def collect(self) -> Iterable[Metric]:
        """The sums over all workers; a gauge is that of the worker that is asked."""
        return _sum([*self._of_others(), self._own()])

    def write(self) -> None:
        """Write this worker's metrics down, whole or not at all."""
        if self._file is None:
            return
        self._look()
        unfinished = self._file.with_suffix(".new")
        try:
            unfinished.write_bytes(generate_latest(_Of(self._own())))
            unfinished.replace(self._file)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            self._say(str(error))
        else:
            self._say(None)

    def _write_on(self) -> None:
        while not self._stop.wait(_WRITE_SECONDS):
            self.write()

    def _own(self) -> list[Metric]:
        return _sum([self._before, self._metrics.registry.collect()])

    def _of_others(self) -> list[list[Metric]]:
        """As last written, oldest first; a file is parsed once, however often it is asked for."""
        known: dict[Path, tuple[int, list[Metric]]] = {}
        for path in self._file.parent.glob("*.prom") if self._file else ():
            with suppress(OSError, ValueError):  # taken over just now, or on a failing disk
                written = path.stat().st_mtime_ns
                before = self._others.get(path)
                if path != self._file:
                    known[path] = before if before and before[0] == written else (written, _read(path))
        self._others = known
        return [metrics for _, metrics in sorted(known.values(), key=lambda each: each[0])]

    def _say(self, error: str | None) -> None:
        if error and self._is_shared:
            _log.warning("metrics can't be shared with the other workers: %s", error)
        elif not error and not self._is_shared:
            _log.info("metrics are shared with the other workers again")
        self._is_shared = error is None


class _Of(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _read(path: Path) -> list[Metric]:
    return list(text_string_to_metric_families(path.read_text()))


def _inherit(file: Path) -> list[Metric]:
    """What one dead worker counted; its file is then this one's, so that nobody else inherits it."""
    for other in file.parent.glob("*.prom"):
        if not _lives(int(other.name.partition("-")[0])):
            try:
                other.rename(file)
                return _read(file)
            except (OSError, ValueError):
                continue
    return []


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _sum(workers: Iterable[Iterable[Metric]]) -> list[Metric]:
    """Counters and histograms added up; of a gauge the last."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for metrics in workers:
        for metric in metrics:
            families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            of_family = values.setdefault(metric.name, {})
            for sample in metric.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                before = 0.0 if metric.type == "gauge" else of_family.get(key, 0.0)
                of_family[key] = before + sample.value
    for name, family in families.items():
        for (name_of_sample, labels), value in values[name].items():
            family.add_sample(name_of_sample, dict(labels), value)
    return list(families.values())
