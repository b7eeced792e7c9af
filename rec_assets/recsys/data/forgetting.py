"""Whom to forget: customers by the digests of their ids, and which rows are theirs. Names nobody."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

Forgotten = Mapping[str, dt.date]
"""`customer_digest` → the last day of which nothing may be kept; what the customer does later is a new beginning."""


def customer_digest(customer_id: str) -> str:
    """SHA-256 of a customer's id, in hexadecimal."""
    return hashlib.sha256(customer_id.encode()).hexdigest()


def is_forgotten(customer_ids: pd.Series, day: dt.date, forgotten: Forgotten) -> npt.NDArray[np.bool_]:
    """(rows,) whether a row of a day is of someone to forget; one without a customer is nobody's."""
    digests = {digest for digest, until in forgotten.items() if day <= until}
    if not digests:
        return np.zeros(len(customer_ids), bool)
    theirs = [each for each in customer_ids.dropna().unique() if customer_digest(str(each)) in digests]
    return customer_ids.isin(theirs).to_numpy(bool)
