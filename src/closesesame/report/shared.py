"""What the pages have in common: how they are filled in, and that they can be written."""

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import jinja2
from markupsafe import Markup
from torch import Tensor

from closesesame.audio.files import SUFFIXES, wav_bytes
from closesesame.core import wording


def environment() -> jinja2.Environment:
    """Returns templates of this package, which escape what is filled in and refuse what is missing."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"wav": wav, "said": said, "capital": lambda text: text[:1].upper() + text[1:]}
    return made


def wav(samples: Tensor, sample_rate: int) -> Markup:
    """A clip (time,) as a URI that holds the whole WAV file."""
    coded = base64.b64encode(wav_bytes(samples, sample_rate)).decode("ascii")
    return Markup(f"data:audio/wav;base64,{coded}")  # noqa: S704  base64 has no character to escape


def writable(html: str) -> str:
    """Replaces lone surrogates: names of files that are not UTF-8 hold them, and no file can be written."""
    return html.encode("utf-8", "replace").decode("utf-8")


def embedded(value: Any) -> Markup:
    """JSON that can stand in a script element: no character in it means anything to HTML."""
    text = json.dumps(plain(value), allow_nan=False, default=str, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704  nothing is left to escape; U+2028 and U+2029 are not ASCII


def plain(value: Any) -> Any:
    """What JSON has no word for, NaN and infinity, is None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def source_of(name: str) -> str:
    """A style sheet or a script among the templates."""
    return resources.files("closesesame.report").joinpath("templates", name).read_text(encoding="utf-8")


def hash_of(text: str) -> str:
    """As a content security policy names a script or a style sheet that may be used."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def said(value: Any) -> str:
    """A setting or a fact in words, and of a file its name alone."""
    return wording.said(value, text=lambda one: str(without_folders(one)))


def without_folders(value: Any) -> Any:
    """The same with the name alone of every recording and of every path from the root of a disk.

    A page must not tell its readers where a user keeps files.
    """
    if isinstance(value, Mapping):
        return {name: without_folders(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(inner) for inner in value]
    if not isinstance(value, str | PurePath):
        return value
    recording = PureWindowsPath(value).suffix.lower() in SUFFIXES
    return PureWindowsPath(value).name if recording else name_of_path(str(value))


def name_of_path(text: str) -> str:
    """The last part of a path from the root of a disk; any other text as it is."""
    rooted = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return PureWindowsPath(text).name or text if rooted else text
