"""`python -m benchmarks.profile COMMAND…`: processor time by process, Java thread and Spark stage.

For example `python -m benchmarks.profile rec-assets bootstrap` after a new day has landed. Unlike wall time, processor
time hardly depends on other load of the machine. For single Python functions, use py-spy on the processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import psutil
from tabulate import tabulate

SAMPLE_SECONDS = 0.25
SHOWN = 15

Thread = tuple[int, int]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def main(command: tuple[str, ...]) -> None:
    """Run COMMAND and print its processor time."""
    with tempfile.TemporaryDirectory(prefix="profile_") as folder:
        events = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": Path(folder).as_uri(),
                  "spark.eventLog.rolling.enabled": "false", "spark.eventLog.compress": "false"}  # fmt: skip
        conf = {**json.loads(os.environ.get("REC_SPARK_CONF", "{}")), **events}
        started = time.perf_counter()
        process = subprocess.Popen(command, env={**os.environ, "REC_SPARK_CONF": json.dumps(conf)})
        by_kind, by_thread = watch(process)
        wall = time.perf_counter() - started
        click.echo(f"\n{wall:.0f} s, {sum(by_kind.values()):.0f} s of processor time")
        click.echo(tabulate(by_kind.most_common(), headers=["process", "cpu s"], floatfmt=".1f"))
        click.echo(tabulate(by_thread.most_common(SHOWN), headers=["\nJava thread", "\ncpu s"], floatfmt=".1f"))
        for log in Path(folder).iterdir():
            rows = sorted(stages(log), key=lambda row: -row["ran s"])[:SHOWN]
            click.echo("\nSpark stages with the longest run time, summed over tasks")
            click.echo(tabulate(rows, headers="keys", floatfmt=".1f"))
    sys.exit(process.returncode)


def watch(process: subprocess.Popen[bytes]) -> tuple[Counter[str], Counter[str]]:
    """Processor seconds by kind of process and by Java thread, until the process ends."""
    spent: dict[tuple[int, float], tuple[str, float]] = {}
    threads: dict[Thread, tuple[str, float]] = {}
    root = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [root, *root.children(recursive=True)]
        except psutil.Error:
            break
        for each in family:
            try:
                times, kind = each.cpu_times(), _kind(each.cmdline())
                spent[each.pid, each.create_time()] = (kind, times.user + times.system)
                if kind == "Spark (Java)":
                    threads.update(_threads(each.pid))
            except psutil.Error:  # it has just ended
                continue
        time.sleep(SAMPLE_SECONDS)
    return _sums(spent.values()), _sums(threads.values())


def _kind(command: list[str]) -> str:
    if not command:
        return "other"
    if Path(command[0]).name == "java":
        return "Spark (Java)"
    return "Spark's Python workers" if "pyspark.daemon" in command else "the run (Python)"


def _threads(pid: int) -> Iterator[tuple[Thread, tuple[str, float]]]:
    """Threads of a process with name and processor time; only on Linux."""
    tick = os.sysconf("SC_CLK_TCK")
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        name, values = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
        yield (pid, int(stat.parent.name)), (name, (int(values[11]) + int(values[12])) / tick)


def _sums(values: Any) -> Counter[str]:
    total: Counter[str] = Counter()
    for name, seconds in values:
        total[name] += seconds
    return total


def stages(log: Path) -> Iterator[dict[str, Any]]:
    """Stages of an event log: start, duration, and the run time and Java processor time of their tasks."""
    ran: Counter[int] = Counter()
    computed: Counter[int] = Counter()
    begun = 0.0
    done: list[dict[str, Any]] = []
    with log.open(encoding="utf-8") as lines:
        for event in map(json.loads, lines):
            if event["Event"] == "SparkListenerApplicationStart":
                begun = event["Timestamp"]
            elif event["Event"] == "SparkListenerTaskEnd":
                metrics = event.get("Task Metrics") or {}
                ran[event["Stage ID"]] += metrics.get("Executor Run Time", 0)
                computed[event["Stage ID"]] += metrics.get("Executor CPU Time", 0)
            elif event["Event"] == "SparkListenerStageCompleted":
                done.append(event["Stage Info"])
    for stage in done:
        number = stage["Stage ID"]
        yield {
            "after s": (stage["Submission Time"] - begun) / 1e3,
            "took s": (stage["Completion Time"] - stage["Submission Time"]) / 1e3,
            "ran s": ran[number] / 1e3,
            "Java cpu s": computed[number] / 1e9,
            "tasks": stage["Number of Tasks"],
            "of": str(stage["Stage Name"])[:50],
        }


if __name__ == "__main__":
    main()
