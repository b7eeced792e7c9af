"""Answers under experiments: what a shopper's treatment makes of an answer, and what is written down of it.

Who is treated how is decided in `recsys.experiments`; whether the answer can be kept to, and logged, here.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rec_assets.recsys.experiments.assignment import Treatment
from rec_assets.recsys.experiments.interleaving import team_draft
from rec_assets.recsys.experiments.spec import CHAMPION, Experiment, Variant, models_of, read_experiments
from rec_assets.serving.answers import HOLDOUT, Answer, Entry, Wish
from rec_assets.serving.live import Engine
from rec_assets.serving.online import Exposure

_log = logging.getLogger(__name__)


class ExperimentsFile:
    """The experiments as the file has them now. One that can't be read any more leaves those before."""

    def __init__(self, path: Path | None) -> None:
        """Read it.

        Raises:
            ValueError: the file can't be used as it is.
        """
        self.path = path
        self._seen = self._stamp()
        self.experiments = read_experiments(path)

    def look(self) -> None:
        """Read it again, if it has changed."""
        if self.path is None or self._stamp() == self._seen:
            return
        self._seen = self._stamp()
        try:
            self.experiments = read_experiments(self.path)
            _log.info("experiments: %s", ", ".join(each.name for each in self.experiments.experiments) or "none")
        except ValueError:
            _log.exception("the experiments go on as they were")

    def on(self, day: dt.date) -> list[Experiment]:
        """Those that take traffic on a day."""
        return self.experiments.on(day)

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat() if self.path else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size) if found else None


@dataclass(frozen=True)
class Shown:
    """What a shopper is shown under a treatment.

    Attributes:
        engine: Whose version answered; with interleaving, the control's.
        answer: The entries, and what they rest on.
        wish: What it answers: what was asked for, as the treatment changes it.
        teams: With interleaving, the variant that each entry comes from; else empty.
    """

    engine: Engine
    answer: Answer
    wish: Wish
    teams: list[str]

    def exposure(
        self,
        treatment: Treatment,
        recommendation_id: str,
        time: dt.datetime,
        *,
        customer: str | None,
        session: str | None,
        simulated: bool,
    ) -> Exposure:
        """What is written down of it."""
        items: list[dict[str, Any]] = [
            {"product_id": entry.product_id, "propensity": entry.propensity} for entry in self.answer.entries
        ]
        for item, team in zip(items, self.teams, strict=False):
            item |= {"team": team, "propensity": None}  # coins decided, of which nothing is kept
        wish = self.wish
        return Exposure(
            recommendation_id, time, customer, session, treatment.variants, self.engine.published.version,
            wish.mode, wish.exploration, wish.is_filtered, self.answer.answered_by, items, simulated,
        )  # fmt: skip


def runnable(experiments: Sequence[Experiment], others: Mapping[str, Engine]) -> list[Experiment]:
    """Those whose models are all there. Of another not even its control is shown: its shares would be off."""
    return [each for each in experiments if models_of([each]) <= others.keys()]


def show(
    now: Engine, others: Mapping[str, Engine], treatment: Treatment, wish: Wish, unavailable: frozenset[str]
) -> Shown:
    """What a shopper sees.

    Args:
        now: The current index.
        others: Those that experiments compare with it, by name or version: all that the treatment needs.
        treatment: Of the shopper.
        wish: What they asked for.
        unavailable: What may not be shown.
    """
    sides = [
        treatment.variant.model_copy(update={lever: getattr(side, lever) for lever in side.levers})
        for side in treatment.mixed.values()
    ] or [treatment.variant]
    engines = [now if side.model == CHAMPION else others[str(side.model)] for side in sides]
    wishes = [_changed(wish, side) for side in sides]
    answers = [
        Answer([], HOLDOUT) if side.show == "nothing" else engine.answer(each, unavailable)
        for side, engine, each in zip(sides, engines, wishes, strict=True)
    ]
    if not treatment.mixed:
        return Shown(engines[0], answers[0], wishes[0], [])
    drafted = team_draft([each.entries for each in answers], wish.k, _product, lambda: random.getrandbits(1))
    names = list(treatment.mixed)
    mixed = Answer([entry for entry, _ in drafted], answers[0].answered_by)
    return Shown(engines[0], mixed, wishes[0], [names[team] for _, team in drafted])


def _product(entry: Entry) -> str:
    return entry.product_id


def _changed(wish: Wish, variant: Variant) -> Wish:
    changes: dict[str, Any] = {}
    if variant.mode is not None:
        changes["mode"] = variant.mode
    if variant.exploration is not None:
        changes["exploration"] = variant.exploration
    if variant.show == "popular":
        changes |= {"customer_id": "", "signals": ()}
    return replace(wish, **changes) if changes else wish
