"""Forgotten customers: they are known by the digests of their ids alone, and their rows are found by these."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

Forgotten = Mapping[str, dt.date]
"""`customer_digest` → the last day whose rows must be deleted. Later rows of the customer are kept."""


def customer_digest(customer_id: str) -> str:
    """SHA-256 of a customer id, in hexadecimal."""
    return hashlib.sha256(customer_id.encode()).hexdigest()


def is_forgotten(customer_ids: pd.Series, day: dt.date, forgotten: Forgotten) -> npt.NDArray[np.bool_]:
    """(rows,) whether a row of `day` belongs to a forgotten customer; False for rows without a customer."""
    digests = {digest for digest, until in forgotten.items() if day <= until}
    if not digests:
        return np.zeros(len(customer_ids), bool)
    matching = [id_ for id_ in customer_ids.dropna().unique() if customer_digest(str(id_)) in digests]
    return customer_ids.isin(matching).to_numpy(bool)
