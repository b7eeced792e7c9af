"""Attributes: properties of products from the catalog, such as color or margin, and conditions on them.

Tables have the attributes of a product as JSON: a text, a list of texts, a number, or a date as ISO text. The names of
those that shoppers must not see begin with HIDDEN.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from rec_assets.recsys.arrays import Ints, Longs, Mask
from rec_assets.recsys.events import MAX_NAME_LENGTH

SIZE = "size"
"""The attribute by which a variant fits a customer."""

HIDDEN = "_"

_NONE: Mapping[str, Any] = {}

_KEPT_MASKS = 64
_DAY = re.compile(r"\d{4}-\d\d-\d\d")

Value = str | float | list[str]
Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_LENGTH)]
Bound = Annotated[float, Field(allow_inf_nan=False)] | Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\d$")]


class Range(BaseModel):
    """Bounds of a number, or of a date such as 2024-03-31."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gt: Bound | None = Field(None, description="Above.")
    gte: Bound | None = Field(None, description="Above or equal.")
    lt: Bound | None = Field(None, description="Below.")
    lte: Bound | None = Field(None, description="Below or equal.")

    @property
    def bounds(self) -> dict[str, float | str]:
        """Name → bound, of those that are set."""
        return {name: bound for name, bound in self if bound is not None}

    @model_validator(mode="after")
    def _check_bounds(self) -> Range:
        if not self.bounds:
            raise ValueError("set one of gt, gte, lt, lte")
        if len({isinstance(bound, str) for bound in self.bounds.values()}) > 1:
            raise ValueError("the bounds must be numbers or dates, not both")
        return self


Values = tuple[Text | float, ...]

Condition = Annotated[Values, Field(min_length=1, max_length=100)] | Range
"""Some values, of which the product must have one; or a range of a number or date."""

Conditions = Annotated[dict[Annotated[str, StringConstraints(max_length=64)], Condition], Field(max_length=10)]
"""Attribute → condition. A product must meet all of them. It does not meet a condition on an attribute it lacks."""


NamedCondition = tuple[str, Values | Range]
"""Name of an attribute, and the condition on it."""


@dataclass(frozen=True, eq=False)
class _Column:
    """The values of one attribute. A list has several, each with the row of its product.

    Attributes:
        rows: Row of each value.
        values: Texts (object), or numbers (float64).
    """

    rows: Longs
    values: npt.NDArray[Any]

    @property
    def is_number(self) -> bool:
        return self.values.dtype != object

    @cached_property
    def is_date(self) -> bool:
        return not self.is_number and all(_DAY.fullmatch(value) for value in pd.unique(self.values))


class Attributes:
    """The attributes of n products or variants."""

    def __init__(self, values: Sequence[Mapping[str, Value]]) -> None:
        self.of_row = values
        self._masks: dict[NamedCondition, Mask] = {}

    @classmethod
    def from_json(cls, texts: Iterable[str]) -> Attributes:
        """From a JSON object for each product; "" for none."""
        return cls([json.loads(text) if text else _NONE for text in texts])

    def shown(self, row: int) -> Mapping[str, Value]:
        """The attributes of a product that shoppers can see."""
        return {name: value for name, value in self.of_row[row].items() if not name.startswith(HIDDEN)}

    @cached_property
    def _columns(self) -> dict[str, _Column]:
        rows: dict[str, list[int]] = {}
        values: dict[str, list[str | float]] = {}
        for row, attributes in enumerate(self.of_row):
            for stored, value in attributes.items():
                name = stored.removeprefix(HIDDEN)
                several = value if isinstance(value, list) else [value]
                rows.setdefault(name, []).extend([row] * len(several))
                values.setdefault(name, []).extend(several)
        return {name: _Column(np.array(rows[name], np.int64), _as_array(values[name])) for name in rows}

    @cached_property
    def _hidden(self) -> set[str]:
        return {name[len(HIDDEN) :] for row in self.of_row for name in row if name.startswith(HIDDEN)}

    @property
    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._columns)

    def has(self, name: str) -> Mask:
        """(n,) whether each has the attribute."""
        mask, column = np.full(len(self.of_row), False), self._columns.get(name)
        if column is not None:
            mask[column.rows] = True
        return mask

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """(n,) values of a number; NaN for products without one, or if it is no number."""
        out, column = np.full(len(self.of_row), np.nan), self._columns.get(name)
        if column is not None and column.is_number:
            out[column.rows] = column.values
        return out

    def groups(self, name: str) -> Ints:
        """(n,) number of the value, of a list its first; −1 for products without one."""
        out, column = np.full(len(self.of_row), -1, np.int32), self._columns.get(name)
        if column is not None:
            out[column.rows[::-1]] = pd.factorize(column.values, sort=True)[0][::-1]
        return out

    def mask(self, conditions: Iterable[NamedCondition]) -> Mask:
        """(n,) whether each product meets all conditions."""
        mask = np.full(len(self.of_row), True)
        for condition in conditions:
            mask &= self._mask_of(condition)
        return mask

    def _mask_of(self, named: NamedCondition) -> Mask:
        """The mask of one condition. Those of the last conditions are kept, because many requests have the same."""
        if (known := self._masks.get(named)) is not None:
            return known
        name, condition = named
        column, mask = self._columns.get(name), np.full(len(self.of_row), False)
        if column is not None and not _problem(name, condition, column):
            mask[column.rows[_meets(condition, column)]] = True
        while len(self._masks) >= _KEPT_MASKS:
            self._masks.pop(next(iter(self._masks)), None)
        self._masks[named] = mask
        return mask

    def problems(self, conditions: Iterable[NamedCondition], *, public: bool = False) -> list[str]:
        """Why conditions can't be met: there is no such attribute, or it has another type.

        With `public`, hidden attributes count as unknown: otherwise, ranges would tell their values.
        """
        found = []
        for name, condition in conditions:
            column = None if public and name in self._hidden else self._columns.get(name)
            if column is None:
                shown = [each for each in self.names if each not in self._hidden]
                found.append(f"there is no attribute {name}; there are {', '.join(shown) or 'none'}")
            elif problem := _problem(name, condition, column):
                found.append(problem)
        return found

    def values(self, name: str) -> npt.NDArray[Any]:
        """The distinct values of an attribute."""
        column = self._columns.get(name)
        return np.array([], object) if column is None else np.asarray(pd.unique(column.values))


def _as_array(values: list[str | float]) -> npt.NDArray[Any]:
    # If products differ in the type, the attribute is a text.
    if all(isinstance(value, int | float) for value in values):
        return np.array(values, np.float64)
    return np.array([str(value) for value in values], object)


def _problem(name: str, condition: Values | Range, column: _Column) -> str:
    values = condition.bounds.values() if isinstance(condition, Range) else condition
    if column.is_number and any(isinstance(value, str) for value in values):
        return f"{name} is a number: compare it with numbers"
    if not column.is_number and any(not isinstance(value, str) for value in values):
        return f"{name} is no number: compare it with texts, or with dates such as 2024-03-31"
    if isinstance(condition, Range) and not column.is_number and not column.is_date:
        return f"{name} is a text: name its values instead of a range"
    return ""


def _meets(condition: Values | Range, column: _Column) -> Mask:
    if not isinstance(condition, Range):
        return np.asarray(pd.Index(column.values).isin(list(condition)))
    values, met = column.values, np.full(len(column.values), True)
    for name, bound in condition.bounds.items():
        is_met = {"gt": values > bound, "gte": values >= bound, "lt": values < bound, "lte": values <= bound}[name]
        met &= is_met.astype(bool)
    return met
