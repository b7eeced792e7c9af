"""Read YAML files into pydantic models. Errors name the file, the line, the field and the valid values."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from rec_assets.files import one_line, read_small_text
from rec_assets.plain_yaml import Document, UnsupportedYaml, parse

M = TypeVar("M", bound=BaseModel)


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""Name of an experiment, variant or rule. Tables use it as a value and as a column name."""

Day = Annotated[dt.date, Field(ge=dt.date(1900, 1, 1), lt=dt.date(2200, 1, 1))]
"""A day with days before and after it, unlike 0001-01-01 and 9999-12-31."""


class StrictModel(BaseModel):
    """A part of a YAML file: immutable, and unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


MAX_BYTES = 256 * 1024
"""Maximum file size: some thousand rules or experiments, or ten thousand product ids."""

_MAX_ERRORS = 5
"""Errors to show at once."""


def read_yaml(
    path: Path,
    model: type[M],
    expected: str,
    *,
    defaults: Mapping[str, Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
    error: type[ValueError] = ValueError,
) -> M:
    """Read a YAML file.

    Args:
        path: Path of the file.
        model: Model of its content.
        expected: The content in words, such as "a data source is a mapping of fields such as `purchases:`".
        defaults: Values for fields that the file doesn't set.
        fixed: Fields that the file can't set.
        error: Type of the errors.

    Raises:
        error: the file isn't YAML that `plain_yaml` supports, or a field is missing, unknown or wrong. One line.
    """
    text = read_small_text(path, MAX_BYTES, error)
    try:
        document = parse(text)
    except UnsupportedYaml as problem:
        raise error(f"{path}: can't be read as YAML: {one_line(str(problem))}") from None
    content = document.content
    if not isinstance(content, dict):
        kind = "is empty" if content is None else "has a list" if isinstance(content, list) else "has text"
        raise error(f"{path}: {expected}, but this file {kind}")
    fields = {**(defaults or {}), **content, **(fixed or {})}
    try:
        return model.model_validate(_without_nulls(fields))
    except ValidationError as problem:
        raise error(f"{path}: {_describe_all(problem, document, model)}") from None


def _describe_all(problem: ValidationError, document: Document, model: type[BaseModel]) -> str:
    errors = problem.errors(include_url=False, include_context=False, include_input=False)
    texts = []
    for details in errors[:_MAX_ERRORS]:
        position = document.position_of(details["loc"])
        texts.append(f"{position}: " * (position is not None) + one_line(_describe(details, model)))
    more = len(errors) - len(texts)
    return "; ".join(texts) + f"; and {more} more" * (more > 0)


def _without_nulls(value: object) -> object:
    """Drop fields without a value: they count as not set."""
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return value


def _describe(problem: ErrorDetails, model: type[BaseModel]) -> str:
    location = [str(name) for name in problem["loc"]]
    path = ".".join(location)
    if problem["type"] == "missing":
        return f"{path} is missing"
    if problem["type"] == "extra_forbidden":
        known = [name for name, field in _model_at(location[:-1], model).model_fields.items() if not field.exclude]
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.7)
        return f"unknown field {path}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")
    return f"{path}: " * bool(path) + problem["msg"].removeprefix("Value error, ")


def _model_at(location: list[str], root: type[BaseModel]) -> type[BaseModel]:
    """The model of the part of the file at a location."""
    models = [root]
    for name in location:
        holder = next((model for model in models if name in model.model_fields), None)
        if holder is not None:
            models = _models_in(holder.model_fields[name].annotation) or models
        else:  # a key of a mapping, an index of a list, or the value of `kind`, which selects a model of a union
            kinds = ((model, model.model_fields.get("kind")) for model in models)
            models = [model for model, kind in kinds if kind and name in get_args(kind.annotation)] or models
    return models[0]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
