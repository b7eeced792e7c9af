"""Does an index that is whole also answer? Tried in a process of its own, which may die of it: `python -m … FOLDER`.

A library may end the whole process over a file it can't read; a worker must not find that out by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from rec_assets.serving.manifest import IndexUnreadable, check

TRIAL_SECONDS = 300
"""After which an index that is still not read counts as one that can't be."""


def self_test(folder: Path) -> None:
    """Check an index's files, and have another process answer from it.

    Raises:
        IndexUnreadable: its files are damaged, or that process failed, died or hung; says how.
        OSError: the folder can't be read, or no process started.
    """
    check(folder)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "rec_assets.serving.self_test", str(folder)],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise IndexUnreadable(f"the index {folder} is refused: it wasn't read within {TRIAL_SECONDS} s") from None
    if done.returncode == 0:
        return
    said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    if done.returncode < 0:
        died = signal.Signals(-done.returncode).name
        raise IndexUnreadable(
            f"the index {folder} is refused: a process that tried it died of {died}; publish a new one with "
            "`rec-assets bootstrap` or the job `refresh`"
        )
    raise IndexUnreadable(f"the index {folder} is refused: {said or f'a trial ended with {done.returncode}'}")


def answer_once(folder: Path) -> None:
    """Read an index and answer from it as a worker does: whom it knows, whom it doesn't, and what somebody does now."""
    import datetime as dt

    from rec_assets.recsys.rules.spec import NO_RULES
    from rec_assets.serving.engine import Engine
    from rec_assets.serving.folder import Published
    from rec_assets.serving.responder import RecommendationRequest

    engine = Engine(Published(0, dt.date.min, folder), NO_RULES)  # answers somebody who looks at a product
    for each in engine.recommender.index.histories.customers[:1]:
        engine.recommender.recommend(each.decode(), 1)  # by the ranker
        engine.answer(RecommendationRequest(customer_id=each.decode()), frozenset())  # from the lists
    engine.answer(RecommendationRequest(), frozenset())


def _main() -> None:
    os.nice(10)  # answers come first
    try:
        answer_once(Path(sys.argv[1]))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}".replace("\n", " "))


if __name__ == "__main__":
    _main()
