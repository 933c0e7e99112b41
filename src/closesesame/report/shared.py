"""What the pages have in common: how they are filled in, and that they can be written."""

import jinja2


def environment() -> jinja2.Environment:
    """Returns templates of this room, which escape what is filled in and refuse what is missing."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def writable(html: str) -> str:
    """Replaces lone surrogates: names of files that are not UTF-8 hold them, and no file can be written."""
    return html.encode("utf-8", "replace").decode("utf-8")
