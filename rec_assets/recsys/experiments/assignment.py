"""Assignment of units to variants by a salted hash, the same in every worker and after every restart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from rec_assets.recsys.experiments.experiments_file import CUSTOMER, Experiment, Variant


def bucket_of(unit_id: str, salt: str) -> float:
    """A pseudo-random number in [0, 1) for a unit, independent between salts."""
    digest = hashlib.sha256(f"{salt}\x00{unit_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign(experiment: Experiment, unit_id: str) -> str | None:
    """The variant of a unit; None for units outside all shares."""
    bucket, end = bucket_of(unit_id, experiment.salt or experiment.name), 0.0
    for name, variant in experiment.variants.items():
        end += variant.share
        if bucket < end:
            return name
    return None


@dataclass(frozen=True)
class Assignment:
    """What one shopper gets from all experiments together.

    Attributes:
        variants: Experiment → variant; empty if the shopper is in no experiment.
        variant: The combined changes of these variants.
        interleaved: Two variants whose rankings are interleaved, by name, the control first; else empty.
    """

    variants: dict[str, str]
    variant: Variant
    interleaved: dict[str, Variant]


NOT_ASSIGNED = Assignment({}, Variant(share=1), {})
"""For shoppers in no experiment."""


def assign_shopper(experiments: Sequence[Experiment], customer_id: str | None, session_id: str | None) -> Assignment:
    """Assign a shopper to the running experiments, except those whose unit is unknown.

    Experiments that run at the same time change different fields (`Experiments`), so their changes can be combined.
    """
    variants: dict[str, str] = {}
    changes: dict[str, object] = {}
    interleaved: dict[str, Variant] = {}
    for experiment in experiments:
        unit = customer_id if experiment.unit == CUSTOMER else session_id
        name = None if unit is None else assign(experiment, unit)
        if name is None:
            continue
        variants[experiment.name] = name
        if experiment.design == "interleave":
            interleaved = dict(experiment.variants)
        else:
            variant = experiment.variants[name]
            changes.update((field, getattr(variant, field)) for field in variant.changed_fields)
    if not variants:
        return NOT_ASSIGNED
    return Assignment(variants, NOT_ASSIGNED.variant.model_copy(update=changes), interleaved)
