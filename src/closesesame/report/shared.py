"""What the pages have in common: how they are filled in, and that they can be written."""

import base64

import jinja2
from markupsafe import Markup
from torch import Tensor

from closesesame.audio.files import wav_bytes


def environment() -> jinja2.Environment:
    """Returns templates of this room, which escape what is filled in and refuse what is missing."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["wav"] = wav
    return made


def wav(samples: Tensor, sample_rate: int) -> Markup:
    """A clip (time,) as a URI that holds the whole WAV file."""
    coded = base64.b64encode(wav_bytes(samples, sample_rate)).decode("ascii")
    return Markup(f"data:audio/wav;base64,{coded}")  # noqa: S704  base64 has no character to escape


def writable(html: str) -> str:
    """Replaces lone surrogates: names of files that are not UTF-8 hold them, and no file can be written."""
    return html.encode("utf-8", "replace").decode("utf-8")
