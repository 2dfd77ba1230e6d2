"""Templates of pages and messages, read once at start: rendering touches no file."""

from importlib.resources import files

import jinja2

_SUFFIXES = (".html", ".txt")


def load(package: str) -> jinja2.Environment:
    """The templates in `<package>/templates`; HTML is escaped, an unknown name is an error."""
    folder = files(package) / "templates"
    sources = {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(_SUFFIXES)
    }
    return jinja2.Environment(
        loader=jinja2.DictLoader(sources),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
