"""Tastes: the attribute values of products, such as "color=red", that customers prefer as they prefer categories."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True, eq=False)
class Tastes:
    """T values of A attributes.

    Attributes:
        attributes: A.
        has: (P, T) 1 if the product has the value.
        share: (P, T) 1 divided by the number of values that the product has of the attribute, so that those of an
            attribute sum to 1.
    """

    attributes: int
    has: sp.csr_matrix
    share: sp.csr_matrix

    @classmethod
    def from_json(cls, texts: Iterable[str]) -> Tastes:
        """From a JSON list of "attribute=value" for each product; "" for none."""
        of_product = [json.loads(text) if text else [] for text in texts]
        values = sorted({value for found in of_product for value in found})
        number = {value: column for column, value in enumerate(values)}
        attribute_of = [value.partition("=")[0] for value in values]
        indices, shares, starts = list[int](), list[float](), [0]
        for found in of_product:
            columns = sorted(number[value] for value in set(found))
            several = [attribute_of[column] for column in columns]
            indices += columns
            shares += [1 / several.count(attribute_of[column]) for column in columns]
            starts.append(len(indices))
        shape = (len(of_product), len(values))
        share = sp.csr_matrix((np.array(shares, np.float32), np.array(indices, np.int32), starts), shape=shape)
        has = sp.csr_matrix((np.ones(len(indices), np.float32), share.indices, share.indptr), shape=shape)
        return cls(len(set(attribute_of)), has, share)
