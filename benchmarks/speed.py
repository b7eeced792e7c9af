"""`python -m benchmarks.speed`: run times compared with a reference for the same work in the same run.

Each group of measurements is a function that yields rows. A ratio is a row's seconds divided by its reference's.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import click
import psutil
from tqdm import tqdm

from benchmarks import costs, speed_data

RESULTS = Path(__file__).with_name("results") / "speed.csv"
MAX_MB = 7_000
"""Limit of the peak memory for ten times the purchases."""

SAMPLE_SECONDS = 2.0
"""Not shorter, because measuring memory takes time, too."""


@dataclass
class Row:
    """One line of the table.

    Attributes:
        work, system, size: What is done, the software and the data size.
        seconds: Wall time.
        peak_mb: Highest memory of all its processes together, shared pages counted once; None if not measured.
        ratio: Seconds divided by the reference's, or the inverse if the target is a speed-up.
        target: The target of the ratio.
        met: Whether it is met.
        note: What tells that the work was the same.
    """

    work: str
    system: str
    size: str
    seconds: float
    peak_mb: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""

    def faster_than(self, reference: Row, times: float) -> Row:
        """Set the target of being `times` times faster."""
        self.ratio, self.target = round(reference.seconds / self.seconds, 2), f"≥ {times:g} times faster"
        self.met = self.ratio >= times
        return self

    def within(self, reference: Row, share: float) -> Row:
        """Set the target of at most this share of the reference's time."""
        self.ratio, self.target = round(self.seconds / reference.seconds, 3), f"≤ {share:g} times"
        self.met = self.ratio <= share
        return self


@dataclass
class Meter:
    """Wall time and peak memory of a process (default: this one) and its children, in a `with` block.

    `largest_mb` is the peak of the process that needs most.
    """

    process: int = field(default_factory=os.getpid)
    seconds: float = 0.0
    peak_mb: float | None = None  # the process ended before the first measurement
    largest_mb: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Meter:
        self._started = time.perf_counter()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = round(time.perf_counter() - self._started, 2)
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            used = 0
            with contextlib.suppress(psutil.Error):  # it has just ended
                first = psutil.Process(self.process)
                for each in [first, *first.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        of_process = each.memory_full_info().pss
                        used, self.largest_mb = used + of_process, max(self.largest_mb, round(of_process / 1e6))
            self.peak_mb = max(self.peak_mb or 0, round(used / 1e6))


@dataclass
class Shop:
    """The demo in a folder; the last day lands later."""

    home: Path
    source: Path
    log: str = ""

    def run(self, *arguments: str) -> tuple[str, Meter]:
        """Run a command of the project as a process; returns its output, time and memory."""
        environment = {**os.environ, "REC_HOME": str(self.home), "REC_SOURCE": str(self.source)}
        command = [sys.executable, *arguments]
        with (
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process,
            Meter(process.pid) as meter,
        ):
            printed, self.log = process.communicate()
        if process.returncode:
            raise click.ClickException(f"{' '.join(arguments)} failed:\n{self.log[-3000:]}")
        return printed, meter

    def steps(self, *runs: str) -> dict[tuple[str, str], float]:
        """Seconds by job and step of some runs of the last plan, from its log."""
        current, seconds = "", {}
        for line in self.log.splitlines():
            if found := re.match(r"\[\d+/\d+\] ([^:]*)", line):
                current = found[1]
            elif (found := re.match(r" +(\w+): done in ([\d.]+) s", line)) and current.startswith(runs):
                seconds[current.split()[0], found[1]] = float(found[2])
        return seconds


def graph(folder: Path) -> Iterator[Row]:
    """The whole demo compared with a plain script; a new and a corrected day compared with the whole demo."""
    home, plain = folder / "demo", "plain script"
    shop = Shop(home, speed_data.land_demo(home))
    size = f"{speed_data.count_lines(home):,} lines"
    printed, meter = shop.run("-m", "benchmarks.plain_pipeline", str(shop.source), str(speed_data.BEFORE_LAST))
    scores = re.findall(r"NDCG@10 ([\d.]+)", printed)
    reference = Row("whole graph", plain, size, meter.seconds, meter.peak_mb, note=f"NDCG@10 {' / '.join(scores)}")
    yield reference
    _, meter = shop.run("-m", "rec_assets.cli", "bootstrap")
    scores = [f"{value:.4f}" for value in speed_data.hybrid_ndcg(home)]
    demo = Row("whole graph", "rec_assets", size, meter.seconds, meter.peak_mb, note=f"NDCG@10 {' / '.join(scores)}")
    yield demo.within(reference, 1.15)
    # The bootstrap trains retrieval models as of the first of three days; the time of each day is the same.
    last = speed_data.BEFORE_LAST
    jobs = ("ingest_catalog", "ingest", "update_products", "train_retrieval")
    steps = shop.steps(*jobs, f"train_models {last}", f"score_customers {last}")
    units = speed_data.count_units(home)

    yield from _small(shop)
    speed_data.land_last_day(home)
    _, meter = shop.run("-m", "rec_assets.cli", "bootstrap")
    yield Row("one new day", "rec_assets", "4,000 lines", meter.seconds, meter.peak_mb).within(demo, 0.12)
    speed_data.correct_a_day(home)
    _, meter = shop.run("-m", "rec_assets.cli", "bootstrap")
    yield Row("one corrected day a month ago", "rec_assets", "1 line", meter.seconds, meter.peak_mb).within(demo, 0.12)

    seconds = round(sum(steps.values()), 1)
    part = Row("graph of one as-of day", "rec_assets", size, seconds, note="from the whole graph's log")
    yield part
    home = folder / "ten_times"
    shop = Shop(home, speed_data.land_ten_times(home))
    size = f"{speed_data.count_lines(home):,} lines"
    _, meter = shop.run("-m", "benchmarks.one_day", str(speed_data.BEFORE_LAST))
    more = shop.steps("")
    seconds = round(sum(more.values()), 1)
    row = Row("graph of one as-of day, ten times the purchases", "rec_assets", size, seconds, meter.peak_mb)
    row.within(part, 4.8)
    row.target, row.met = f"{row.target}, < {MAX_MB / 1000:g} GB", bool(row.met) and (row.peak_mb or 0) < MAX_MB
    yield row
    costs.write(steps, more, units, speed_data.count_units(home))


def _small(shop: Shop) -> Iterator[Row]:
    for work, limit, arguments in (
        ("importing the code location", 5.0, ("-c", "import rec_assets.definitions")),
        ("rec-assets recommend", 1.5, ("-m", "rec_assets.cli", "recommend", "1")),
    ):
        seconds = min(shop.run(*arguments)[1].seconds for _ in range(3))
        yield Row(work, "rec_assets", "demo", seconds, target=f"< {limit:g} s", met=seconds < limit)


def lists(folder: Path) -> Iterator[Row]:
    """Top-100 for every customer by ALS factors, compared with Spark's own function."""
    from benchmarks import speed_als

    for name, factors, part in (
        ("Complete Journey", speed_als.journey_factors(folder), 1.0),
        ("synthetic", speed_als.synthetic_factors(folder, 200_000, 50_000), 0.1),
    ):
        size = f"{name}: {factors.customers:,} × {factors.products:,}"
        if part == 1:  # a first run, so that code is compiled and workers are started
            speed_als.recommend_for_all_users(factors, part)
            speed_als.top_for_all(factors)
        with Meter() as meter:
            speed_als.recommend_for_all_users(factors, part)
        reference = Row("top-100 for every customer", "ALSModel.recommendForAllUsers", size,
                        round(meter.seconds / part, 2), meter.peak_mb,
                        note="" if part == 1 else f"time of {part:g} of the customers, scaled")  # fmt: skip
        yield reference
        with Meter() as meter:
            speed_als.top_for_all(factors)
        ours = Row("top-100 for every customer", "rec_assets", size, meter.seconds, meter.peak_mb)
        ours.note = f"{speed_als.agreement(factors):.2%} of the ranks of 500 customers agree"
        yield ours.faster_than(reference, 15)


def fit(folder: Path) -> Iterator[Row]:
    """ALS fit on the purchases of the window, compared with the library implicit."""
    from benchmarks import speed_als

    task = speed_als.FitTask.of_journey()
    size = f"{len(task.lines):,} lines, rank {task.recipe.rank}, {task.recipe.iterations} iterations"
    reference = None
    for system, work in task.systems().items():
        work()  # a first run, so that code is compiled and files are cached
        with Meter() as meter:
            factors = work()
        row = Row("ALS fit", system, size, meter.seconds, meter.peak_mb)
        row.note = "NDCG@10 {:.4f} / {:.4f}".format(*task.ndcg(factors))
        if reference is None:
            reference = row
        elif "Spark" in system:  # the engine of clusters: its ratio is shown, without a target
            row.ratio = round(row.seconds / reference.seconds, 2)
        else:
            row.within(reference, 2)
        yield row


def texts(folder: Path) -> Iterator[Row]:
    """Vectors of the demo's product texts, compared with encoding every row."""
    from benchmarks import speed_encoding

    products, part = speed_encoding.products(), 0.1
    size = f"{len(products):,} products"
    with Meter() as meter:
        every = speed_encoding.encode_every_row(products.sample(frac=part, random_state=1))
    reference = Row("encoding product texts", "SentenceTransformer.encode on every row", size,
                    round(meter.seconds / part, 2), meter.peak_mb,
                    note=f"time of {part:g} of the rows, scaled")  # fmt: skip
    yield reference
    with Meter() as meter:
        known = speed_encoding.encode_new(products)
    lowest = speed_encoding.min_cosine(every, known)
    row = Row("encoding product texts", "rec_assets", size, meter.seconds, meter.peak_mb)
    row.note = f"{len(known):,} distinct texts; lowest cosine {lowest:.4f}"
    yield row.faster_than(reference, 10)
    with Meter() as meter:
        again = speed_encoding.encode_new(products, known)
    assert len(again) == len(known)
    yield Row("encoding an unchanged catalog", "rec_assets", size, meter.seconds, note="0 texts encoded")


def ingest(folder: Path) -> Iterator[Row]:
    """Reading and cleaning the demo's year, and a single day of many lines."""
    shop = Shop(folder / "demo", speed_data.land_demo(folder / "demo"))
    _, meter = shop.run("-m", "benchmarks.one_day", "--ingest", str(speed_data.BEFORE_LAST))
    size = f"{speed_data.count_lines(shop.home):,} lines of 364 days"
    yield Row("reading and cleaning", "rec_assets", size, meter.seconds, meter.peak_mb)
    large: tuple[tuple[Literal["csv", "jsonl"], int, int], ...] = (("csv", 200, 100_000), ("jsonl", 1, 5_000_000))
    for kind, files, lines in large:
        home = folder / kind
        shop = Shop(home, speed_data.land_large_day(home, files, lines, kind))
        _, meter = shop.run("-m", "benchmarks.one_day", "--ingest", str(speed_data.LAST))
        size = f"{files * lines:,} lines of a day, {files} {kind} files"
        row = Row("reading and cleaning", "rec_assets", size, meter.seconds, meter.peak_mb, target="< 3 GB a process")
        row.note, row.met = f"largest process {meter.largest_mb:,.0f} MB", meter.largest_mb < 3000
        yield row
        shutil.rmtree(home)


GROUPS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "ingest": ingest,
    "lists": lists,
    "fit": fit,
    "texts": texts,
    "graph": graph,
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", type=click.Choice(list(GROUPS)), help="One group; the rows of the others stay as they are.")
def main(only: str | None) -> None:
    """Measure all groups (an hour on two cores); writes benchmarks/results/speed.csv and costs.csv."""
    if only is None:  # in separate processes, so that memory of one does not count for another
        for name in GROUPS:
            subprocess.run([sys.executable, "-m", "benchmarks.speed", "--only", name], check=True)
        return
    names = ["group", *Row.__dataclass_fields__]
    kept: list[dict[str, object]] = []
    if RESULTS.exists():
        with RESULTS.open(newline="") as file:
            kept = [dict(row) for row in csv.DictReader(file) if row["group"] != only]
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="speed_") as folder:
        for row in GROUPS[only](Path(folder)):
            tqdm.write(f"{row.work}, {row.system}: {row.seconds} s, {row.ratio or ''} {row.note}", file=sys.stderr)
            rows.append({"group": only, **asdict(row)})
            _write([*kept, *rows], names)
    click.echo(RESULTS.read_text())


def _write(rows: list[dict[str, object]], names: list[str]) -> None:
    order = list(GROUPS)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: order.index(str(row["group"]))))


if __name__ == "__main__":
    main()
