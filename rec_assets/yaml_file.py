"""Our YAML files as pydantic models, with errors in words that name the file, the line, the field and its choices."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from rec_assets.plain_yaml import Document, NotPlain, parse
from rec_assets.small_file import one_line, read_small_text

M = TypeVar("M", bound=BaseModel)


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""What people call a part of a file, such as an experiment or a rule: it stands in tables and columns."""


Day = Annotated[dt.date, Field(ge=dt.date(1900, 1, 1), lt=dt.date(2200, 1, 1))]
"""A day that others can be counted from: 0001-01-01 and 9999-12-31 have none before or after them."""

MOST_BYTES = 256 * 1024
"""Of a file: some thousand rules or experiments, or some ten thousand products by id."""

_MOST_PROBLEMS = 5
"""Named at once."""


def read_yaml(
    path: Path,
    model: type[M],
    what: str,
    *,
    defaults: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
    error: type[ValueError] = ValueError,
) -> M:
    """Read a file.

    Args:
        path: Of the file.
        model: What it holds.
        what: The same in words, as "a source is a mapping of fields such as `purchases:`".
        defaults: Fields, where the file doesn't say them.
        given: Fields that the file can't say.
        error: What to raise.

    Raises:
        error: no YAML as `plain_yaml` takes it, or a field that is missing, unknown or of a wrong kind; in one line.
    """
    text = read_small_text(path, MOST_BYTES, error)
    try:
        document = parse(text)
    except NotPlain as problem:
        raise error(f"{path}: not readable as YAML: {one_line(str(problem))}") from None
    content = document.content
    if not isinstance(content, dict):
        found = "nothing" if content is None else "a list" if isinstance(content, list) else "a text"
        raise error(f"{path}: {what}, and here stands {found}")
    fields = {**(defaults or {}), **content, **(given or {})}
    try:
        return model.model_validate(_without_nulls(fields))
    except ValidationError as problem:
        raise error(f"{path}: {_all_in_words(problem, document, model)}") from None


def _all_in_words(problem: ValidationError, document: Document, model: type[BaseModel]) -> str:
    errors = problem.errors(include_url=False, include_context=False, include_input=False)
    said = []
    for each in errors[:_MOST_PROBLEMS]:
        place = document.place_of(each["loc"])
        said.append(f"{place}: " * (place is not None) + one_line(_in_words(each, model)))
    more = len(errors) - len(said)
    return "; ".join(said) + f"; and {more} more" * (more > 0)


def _without_nulls(value: object) -> object:
    """A field without a value counts as not given."""
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return value


def _in_words(problem: ErrorDetails, model: type[BaseModel]) -> str:
    location = [str(name) for name in problem["loc"]]
    field = ".".join(location)
    if problem["type"] == "missing":
        return f"{field} is missing"
    if problem["type"] == "extra_forbidden":
        known = [name for name, about in _part_at(location[:-1], model).model_fields.items() if not about.exclude]
        near = difflib.get_close_matches(location[-1], known, n=1)
        return f"there is no field {field}; " + (
            f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        )
    return f"{field}: " * bool(field) + problem["msg"].removeprefix("Value error, ")


def _part_at(location: list[str], whole: type[BaseModel]) -> type[BaseModel]:
    """The model of the part of the file that a location leads to."""
    parts = [whole]
    for name in location:
        holder = next((part for part in parts if name in part.model_fields), None)
        if holder is not None:
            parts = _models_in(holder.model_fields[name].annotation) or parts
        else:  # the name of an entry in a mapping, a place in a list, or what kind of part it is
            parts = [part for part in parts if name in _tags(part)] or parts
    return parts[0]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


def _tags(part: type[BaseModel]) -> tuple[str, ...]:
    """What `kind` says of such a part, where parts are told apart by it."""
    return get_args(part.model_fields["kind"].annotation) if "kind" in part.model_fields else ()
