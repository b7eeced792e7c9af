"""Who sees which variant: a salted hash of the unit's id, the same in every worker and after every restart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from rec_assets.recsys.experiments.spec import CUSTOMER, Experiment, Variant


def bucket_of(unit_id: str, salt: str) -> float:
    """A unit's place in [0, 1): as good as chance, and independent between salts."""
    digest = hashlib.sha256(f"{salt}\x00{unit_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign(experiment: Experiment, unit_id: str) -> str | None:
    """The variant of a unit; None for the share of the traffic that the experiment leaves alone."""
    place, end = bucket_of(unit_id, experiment.salt or experiment.name), 0.0
    for name, variant in experiment.variants.items():
        end += variant.share
        if place < end:
            return name
    return None


@dataclass(frozen=True)
class Treatment:
    """What one shopper is answered with.

    Attributes:
        variants: Experiment → variant; empty for who is in none.
        variant: What these change, together.
        mixed: Two variants whose rankings are interleaved, by name, the control first; else empty.
    """

    variants: dict[str, str]
    variant: Variant
    mixed: dict[str, Variant]


NO_TREATMENT = Treatment({}, Variant(share=1), {})
"""Of who is in no experiment."""


def assign_treatment(experiments: Sequence[Experiment], customer_id: str | None, session_id: str | None) -> Treatment:
    """Assign a shopper to the experiments that run; those whose unit isn't known are left out.

    Experiments that run together change different things (`spec.Experiments`), so that what they change adds up.
    """
    variants: dict[str, str] = {}
    changes: dict[str, object] = {}
    mixed: dict[str, Variant] = {}
    for experiment in experiments:
        unit = customer_id if experiment.unit == CUSTOMER else session_id
        name = None if unit is None else assign(experiment, unit)
        if name is None:
            continue
        variants[experiment.name] = name
        if experiment.design == "interleave":
            mixed = dict(experiment.variants)
        else:
            chosen = experiment.variants[name]
            changes.update((lever, getattr(chosen, lever)) for lever in chosen.levers)
    if not variants:
        return NO_TREATMENT
    return Treatment(variants, NO_TREATMENT.variant.model_copy(update=changes), mixed)
