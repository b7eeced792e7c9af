"""Rules as a merchandiser's YAML file describes them, and the lists of products that it names."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rec_assets.small_file import one_line, read_small_text
from rec_assets.yaml_file import Name, read_yaml

NONE = "none"
"""The rule set that changes nothing, which every shop has."""

TEN = 10
"""Places that shares, caps and losses are counted over: the first ten, the next ten, and so on."""

MOST_LIST_BYTES = 16 * 1024 * 1024
"""Of a file's lists of products together: about a million products."""

Share = Annotated[float, Field(gt=0, le=1)]


class RulesError(ValueError):
    """The rules' file, or a list of products that it names, can't be used as it is; the message says why."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Products(_Part):
    """Products: all that any of these fields names."""

    ids: tuple[str, ...] = ()
    file: str | None = Field(None, description="CSV with the column product_id, beside the YAML file.")
    categories: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    slow_movers: Share | None = Field(
        None, description="The worst sellers that together have at most this share of the lookback's order lines."
    )

    @model_validator(mode="after")
    def _names_some(self) -> Products:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError(f"names no products: say which by any of {', '.join(type(self).model_fields)}")
        return self


class _Rule(_Part):
    name: Name

    @property
    def file(self) -> str | None:
        """The list of products that it needs."""
        chosen = getattr(self, "products", None)
        return chosen.file if isinstance(chosen, Products) else None


class ExcludeRule(_Rule):
    """These products are never shown."""

    kind: Literal["never"]
    products: Products


class MinPriceRule(_Rule):
    """Products that cost less, or whose price nobody knows, are never shown."""

    kind: Literal["price_floor"]
    least: float = Field(gt=0, description="In the shop's currency.")


class WeightRule(_Rule):
    """Scores are multiplied by (worth / its median) ** strength: what earns more stands higher."""

    kind: Literal["weigh"]
    worth: str | None = Field(
        None, description="CSV with the columns product_id and worth, such as the margin; default: the price."
    )
    strength: float = Field(0.5, gt=0, le=2)

    @property
    def file(self) -> str | None:
        """The list of products that it needs."""
        return self.worth


class ReturnsRule(_Rule):
    """What the product, and the customer, are likely to send back stands lower."""

    kind: Literal["returns"]
    cost: float = Field(0.5, gt=0, le=2, description="Of a return, as a share of the price.")


class ComplementsRule(_Rule):
    """After a purchase, what is bought along with it stands first."""

    kind: Literal["complements_first"]
    days: int = Field(7, ge=0, le=90, description="After the purchase.")
    places: int = Field(3, ge=1, le=TEN)


class BoostRule(_Rule):
    """Some places of each ten are for these products, as long as that costs little expected relevance."""

    kind: Literal["favor"]
    products: Products
    places: int = Field(ge=1, le=TEN, description="Of each ten.")
    most_loss: float = Field(
        0.03, ge=0, le=1, description="Share of the ten's expected DCG that the rule may cost at most."
    )


class CapRule(_Rule):
    """No more than so many of one brand or category among ten, as long as there is anything else."""

    kind: Literal["cap"]
    per: Literal["brand", "category"]
    most: int = Field(ge=1, le=TEN)


class FrequencyCapRule(_Rule):
    """What was shown so often, and neither clicked nor put into the basket, rests until that is long ago."""

    kind: Literal["frequency_cap"]
    most: int = Field(ge=1, description="Impressions.")
    days: int = Field(7, ge=1, le=30, description="In which they count.")


class PinRule(_Rule):
    """One product stands at one place, whoever asks."""

    kind: Literal["pin"]
    product: str = Field(min_length=1)
    place: int = Field(ge=1, le=100)


Rule = Annotated[
    ExcludeRule
    | MinPriceRule
    | WeightRule
    | ReturnsRule
    | ComplementsRule
    | BoostRule
    | CapRule
    | FrequencyCapRule
    | PinRule,
    Field(discriminator="kind"),
]
RuleSet = tuple[Rule, ...]

_ONCE = ("returns", "complements_first", "frequency_cap")


class _File(_Part):
    default: Name = Field(NONE, description="The set that counts where no experiment says another.")
    rule_sets: dict[Name, RuleSet] = {}

    @field_validator("rule_sets")
    @classmethod
    def _can_be_told_apart(cls, sets: dict[str, RuleSet]) -> dict[str, RuleSet]:
        if NONE in sets:
            raise ValueError(f"{NONE} is the set without rules: call yours otherwise")
        for name, rules in sets.items():
            for what, given in (
                ("rules called", [rule.name for rule in rules]),
                ("rules of the kind", [rule.kind for rule in rules if rule.kind in _ONCE]),
                ("pins at place", [rule.place for rule in rules if rule.kind == "pin"]),
                ("pins of product", [rule.product for rule in rules if rule.kind == "pin"]),
            ):
                twice = next((each for each, times in Counter(map(str, given)).items() if times > 1), None)
                if twice is not None:
                    raise ValueError(f"{name} has two {what} {twice}: leave one")
        return sets

    @model_validator(mode="after")
    def _has_its_default(self) -> _File:
        if self.default != NONE and self.default not in self.rule_sets:
            raise ValueError(f"default: there is no rule set {self.default}; there are {', '.join(self.rule_sets)}")
        return self


@dataclass(frozen=True)
class Rules:
    """All rule sets of a shop, with the lists of products that they name.

    Attributes:
        sets: Name → rules; NONE is among them.
        default: The set that counts where no experiment says another.
        path: Of the file; None without one.
        lists: File named in the rules → its column `worth`, 1 without such a column, by product_id.
    """

    sets: dict[str, RuleSet]
    default: str
    path: Path | None
    lists: dict[str, pd.Series]

    def version(self, name: str) -> str:
        """What a set says, its lists included, as a short hash; "" of one without rules."""
        rules = self.sets[name]
        if not rules:
            return ""
        digest = hashlib.sha256()
        for rule in rules:
            digest.update(rule.model_dump_json().encode())
            if rule.file is not None:
                digest.update(self.lists[rule.file].sort_index().to_csv().encode())
        return digest.hexdigest()[:12]

    @property
    def files(self) -> list[Path]:
        """The file itself, and all its lists."""
        return [] if self.path is None else [self.path, *(self.path.parent / name for name in sorted(self.lists))]


NO_RULES = Rules({NONE: ()}, NONE, None, {})


def read_rules(path: Path | None) -> Rules:
    """The rules of a file; none without one.

    Raises:
        RulesError: the file, or a list that it names, can't be used as it is.
    """
    if path is None:
        return NO_RULES
    found = read_yaml(path, _File, "a file of rules has its sets under `rule_sets:`", error=RulesError)
    named = [path.parent / name for name in {rule.file for rule in _rules(found)} if name is not None]
    together = sum(os.path.getsize(each) for each in named if os.path.isfile(each))
    if together > MOST_LIST_BYTES:
        raise RulesError(
            f"{path}: its lists of products have {together:,} bytes together, and may have {MOST_LIST_BYTES:,}: "
            "name categories or brands instead"
        )
    lists = {}
    for rule in _rules(found):
        if rule.file is not None and rule.file not in lists:
            lists[rule.file] = _read_list(path.parent / rule.file, has_worth=rule.kind == "weigh")
    return Rules({NONE: (), **found.rule_sets}, found.default, path, lists)


def _rules(found: _File) -> Iterator[Rule]:
    # Those with a worth first: a list that has the column serves also where only its products count.
    every = [rule for rules in found.rule_sets.values() for rule in rules]
    yield from sorted(every, key=lambda rule: rule.kind != "weigh")


def _read_list(path: Path, *, has_worth: bool) -> pd.Series:
    """`worth` by product_id."""
    header, rows, lines = _read_csv(path)
    for column in ("product_id", *(["worth"] if has_worth else [])):
        if column not in header:
            raise RulesError(f"{path}: has no column {column}; there are {one_line(', '.join(header))}")
        if header.count(column) > 1:
            raise RulesError(f"{path}: has two columns {column}: leave one")
    product_id = pd.Index([row[header.index("product_id")] for row in rows], name="product_id", dtype=object)
    if not has_worth:
        return pd.Series(1.0, index=product_id.unique(), name="worth")
    said = pd.Series([row[header.index("worth")] for row in rows], dtype=object)
    worth = pd.to_numeric(said, errors="coerce").to_numpy(dtype=float)
    for wrong, why in (
        (~(worth > 0) | (worth == float("inf")), "worth must be a number above 0"),
        (product_id.duplicated(), "product_id stands there a second time"),
    ):
        if wrong.any():
            row = int(wrong.argmax())
            line = one_line(str(dict(zip(header, rows[row], strict=True))))
            raise RulesError(f"{path}, line {lines[row]}: {why}: {line}")
    return pd.Series(worth, index=product_id, name="worth")


def _read_csv(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows, each as long as that, and the line that each ends on."""
    reader = csv.reader(io.StringIO(read_small_text(path, MOST_LIST_BYTES, RulesError), newline=""), strict=True)
    rows, lines = [], []
    try:
        header = next(reader, [])
        for row in reader:
            if len(row) > len(header):
                raise csv.Error(f"{len(row)} values under {len(header)} columns: put a value with a comma in quotes")
            if row:
                rows.append(row + [""] * (len(header) - len(row)))
                lines.append(reader.line_num)
    except csv.Error as problem:
        raise RulesError(f"{path}, line {reader.line_num}: not readable as CSV: {problem}") from None
    if not header:
        raise RulesError(f"{path}: not readable as CSV: it has no header")
    return header, rows, lines
