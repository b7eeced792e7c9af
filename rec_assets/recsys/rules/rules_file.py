"""The rules file: a merchandiser's rule sets as YAML, and the CSV files of products that it names."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
from pydantic import Field, field_validator, model_validator

from rec_assets.errors import UserError
from rec_assets.files import one_line, read_small_text
from rec_assets.recsys.rules.rule import MerchandisingRule, ProductFiles
from rec_assets.recsys.rules.rule_kinds import RULE_KINDS
from rec_assets.yaml_file import Name, StrictModel, read_yaml

NO_RULE_SET = "none"
"""Name of the rule set that changes nothing. Every shop has it."""

MAX_PRODUCT_FILE_BYTES = 16 * 1024 * 1024
"""Size of all product files of a rules file together: about a million products."""

if TYPE_CHECKING:
    AnyRule = MerchandisingRule
else:
    AnyRule = Annotated[reduce(or_, RULE_KINDS), Field(discriminator="kind")]


class RulesError(UserError, ValueError):
    """The rules file, or a product file that it names, can't be used; the message says why."""


class _RulesFile(StrictModel):
    default: Name = Field(NO_RULE_SET, description="The rule set to use unless an experiment names another one.")
    rule_sets: dict[Name, tuple[AnyRule, ...]] = Field({}, description="Name → rules.")

    @field_validator("rule_sets")
    @classmethod
    def _has_no_conflicts(cls, sets: dict[str, tuple[MerchandisingRule, ...]]) -> dict[str, tuple[AnyRule, ...]]:
        if NO_RULE_SET in sets:
            raise ValueError(f"{NO_RULE_SET} is the rule set without rules: choose another name")
        for name, rules in sets.items():
            counts = Counter(f"rules with the name {rule.name}" for rule in rules)
            for rule in rules:
                for field in rule.unique:
                    suffix = "" if field == "kind" else f" with the {field} {getattr(rule, field)}"
                    counts[f"{rule.kind} rules{suffix}"] += 1
            conflict = next((what for what, count in counts.items() if count > 1), None)
            if conflict is not None:
                raise ValueError(f"{name} has two {conflict}: remove one")
        return sets

    @model_validator(mode="after")
    def _has_its_default(self) -> _RulesFile:
        if self.default != NO_RULE_SET and self.default not in self.rule_sets:
            raise ValueError(
                f"default: there is no rule set {self.default}; there are {', '.join(self.rule_sets) or 'none'}"
            )
        return self


@dataclass(frozen=True)
class RuleSets:
    """All rule sets of a shop, with the product files that they name.

    Attributes:
        sets: Name → rules; NO_RULE_SET is one of them.
        default: The rule set to use unless an experiment names another one.
        path: The YAML file, if there is one.
        product_files: The CSV files that the rules name.
    """

    sets: dict[str, tuple[MerchandisingRule, ...]]
    default: str
    path: Path | None
    product_files: ProductFiles

    def version(self, name: str) -> str:
        """Short hash of a rule set and its product files; "" for a set without rules."""
        rules = self.sets[name]
        if not rules:
            return ""
        digest = hashlib.sha256()
        for rule in rules:
            digest.update(rule.model_dump_json().encode())
            if rule.file is not None:
                digest.update(self.product_files[rule.file].sort_index().to_csv().encode())
        return digest.hexdigest()[:12]

    @property
    def files(self) -> list[Path]:
        """The YAML file and its product files."""
        return (
            [] if self.path is None else [self.path, *(self.path.parent / name for name in sorted(self.product_files))]
        )


EMPTY_RULE_SETS = RuleSets({NO_RULE_SET: ()}, NO_RULE_SET, None, {})


def read_rules(path: Path | None) -> RuleSets:
    """Read a rules file; EMPTY_RULE_SETS without a path.

    Raises:
        RulesError: The file, or a product file that it names, can't be used.
    """
    if path is None:
        return EMPTY_RULE_SETS
    file = read_yaml(path, _RulesFile, "a rules file has its rule sets under `rule_sets:`", error=RulesError)
    files = [path.parent / name for name in {rule.file for rule in _rules(file)} if name is not None]
    size = sum(os.path.getsize(each) for each in files if os.path.isfile(each))
    if size > MAX_PRODUCT_FILE_BYTES:
        raise RulesError(
            f"{path}: its product files have {size:,} bytes together, more than {MAX_PRODUCT_FILE_BYTES:,}: "
            "name categories or brands instead"
        )
    product_files: dict[str, pd.Series] = {}
    for rule in _rules(file):
        if rule.file is not None and rule.file not in product_files:
            product_files[rule.file] = _read_product_file(path.parent / rule.file, has_values=rule.needs_values)
    return RuleSets({NO_RULE_SET: (), **file.rule_sets}, file.default, path, product_files)


def _rules(file: _RulesFile) -> Iterator[MerchandisingRule]:
    # Rules that need values come first: a file with values also serves rules that only need its product ids.
    rules = [rule for rule_set in file.rule_sets.values() for rule in rule_set]
    yield from sorted(rules, key=lambda rule: not rule.needs_values)


def _read_product_file(path: Path, *, has_values: bool) -> pd.Series:
    """`value` by product_id."""
    header, rows, lines = _read_csv(path)
    for column in ("product_id", *(["value"] if has_values else [])):
        if column not in header:
            raise RulesError(f"{path}: has no column {column}; there are {one_line(', '.join(header))}")
        if header.count(column) > 1:
            raise RulesError(f"{path}: has two columns {column}: remove one")
    product_id = pd.Index([row[header.index("product_id")] for row in rows], name="product_id", dtype=object)
    if not has_values:
        return pd.Series(1.0, index=product_id.unique(), name="value")
    texts = pd.Series([row[header.index("value")] for row in rows], dtype=object)
    values = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=float)
    for wrong, why in (
        (~(values > 0) | (values == float("inf")), "value must be a number above 0"),
        (product_id.duplicated(), "this product_id is in an earlier line"),
    ):
        if wrong.any():
            row = int(wrong.argmax())
            line = one_line(str(dict(zip(header, rows[row], strict=True))))
            raise RulesError(f"{path}, line {lines[row]}: {why}: {line}")
    return pd.Series(values, index=product_id, name="value")


def _read_csv(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows padded to its length, and the line on which each row ends."""
    reader = csv.reader(io.StringIO(read_small_text(path, MAX_PRODUCT_FILE_BYTES, RulesError), newline=""), strict=True)
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
        raise RulesError(f"{path}: not readable as CSV: it has no header: write `product_id` into its first line")
    return header, rows, lines
