"""Rendering of the HTML reports: evaluation, gate decision, experiments and rule simulation."""

from collections.abc import Callable, Mapping
from importlib import resources

import jinja2


def render_page(package: str, template: str, filters: Mapping[str, Callable[..., str]], **values: object) -> str:
    """One self-contained HTML page from the Jinja template of a package; values are escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= filters
    text = resources.files(package).joinpath(template).read_text(encoding="utf-8")
    return environment.from_string(text).render(values)
