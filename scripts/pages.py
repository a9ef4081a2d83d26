"""Pages made from the templates in ``scripts/templates``."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2


def cell(text: object) -> str:
    """Return a text that cannot leave its cell of a Markdown table, nor become HTML."""
    return re.sub(r"\s+", " ", str(text)).replace("|", r"\|").replace("<", "&lt;")


def render(name: str, values: dict[str, Any], **filters: Callable[..., Any]) -> str:
    """Return a template filled with values; in one of HTML everything is escaped.

    Args:
        name: The template's.
        values: What it shows, by name.
        **filters: Those that it has beside `cell`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": cell, **filters}
    return environment.get_template(name).render(values)
