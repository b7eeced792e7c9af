"""Self-test of an index: a child process loads it and responds to sample requests (`python -m … FOLDER`).

A library may crash the whole process on a file that it can't read. The self-test protects the worker from that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from rec_assets.serving.index_files.manifest import IndexUnreadable, verify

TIMEOUT_SECONDS = 300


def self_test(folder: Path) -> None:
    """Verify the files of an index, and respond to sample requests from it in a child process.

    Raises:
        IndexUnreadable: the files are damaged, or the process failed, crashed or timed out.
        OSError: the folder can't be read, or the process can't start.
    """
    verify(folder)
    try:
        child = subprocess.run(
            [sys.executable, "-m", "rec_assets.serving.index_files.self_test", str(folder)],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise IndexUnreadable(f"the index {folder} failed its self-test: no end after {TIMEOUT_SECONDS} s") from None
    if child.returncode < 0:
        raise IndexUnreadable(
            f"the index {folder} failed its self-test: the process died of {signal.Signals(-child.returncode).name}; "
            "publish a new one with `rec-assets bootstrap` or the job `daily_update`"
        )
    if child.returncode > 0:
        error = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise IndexUnreadable(f"the index {folder} failed its self-test: {error or f'exit status {child.returncode}'}")


def respond_to_samples(folder: Path) -> None:
    """Load an index as a worker does, and respond for a known customer, an unknown one and a current session."""
    import datetime as dt

    from rec_assets.recsys.rules.rules_file import EMPTY_RULE_SETS
    from rec_assets.serving.engine import Engine
    from rec_assets.serving.index_files.folder import PublishedIndex
    from rec_assets.serving.recommendation import RecommendationRequest

    engine = Engine(PublishedIndex(0, dt.date.min, folder), EMPTY_RULE_SETS)  # its warm-up is the current session
    for customer in engine.recommender.index.histories.customers[:1]:
        engine.recommender.recommend(customer.decode(), 1)  # ranks
        engine.respond(RecommendationRequest(customer_id=customer.decode()), frozenset())  # reads the stored list
    engine.respond(RecommendationRequest(), frozenset())


if __name__ == "__main__":
    os.nice(10)  # requests to the workers come first
    try:
        respond_to_samples(Path(sys.argv[1]))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}".replace("\n", " "))
