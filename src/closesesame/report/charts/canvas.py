"""The canvas of every figure: matplotlib draws, the page's style sheet colours.

Every drawing is an inline SVG about 350 CSS pixels wide, so that its words can be read on a phone. Words stay
text, set by the browser, which has fonts for scripts that matplotlib lacks. Names are hostile: they are
escaped, never read as formulas, and cut when long.
"""

import base64
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from markupsafe import Markup, escape
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

WIDTH = 350
"""Of every figure, in CSS pixels; one point of matplotlib is taken for one of them."""
DASH = "\N{EN DASH}"
LONGEST_NAME = 26


# Stand-ins that no figure uses by itself; `inline` replaces them by variables of the style sheet.
INK, SOFT, RULE, PAPER, GOOD = "#010101", "#010102", "#010103", "#010104", "#010105"
COLOURS = {"acc": "#010106", "asr": "#010107", "ra": "#010108"}
_VARIABLES = {INK: "ink", SOFT: "soft", RULE: "rule", PAPER: "paper", GOOD: "good"} | {
    colour: name for name, colour in COLOURS.items()
}
_STYLE = {
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.labelcolor": SOFT,
    "axes.labelpad": 3,
    "axes.labelsize": 11,
    "figure.facecolor": "none",
    "font.size": 11,
    "svg.fonttype": "none",
    "svg.hashsalt": "closesesame",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": RULE,
    "xtick.labelcolor": SOFT,
    "xtick.labelsize": 11,
    "xtick.major.pad": 5,
    "ytick.color": RULE,
    "ytick.labelcolor": SOFT,
    "ytick.labelsize": 11,
    "ytick.major.pad": 5,
}


@contextmanager
def drawing(height: float) -> Iterator[Figure]:
    """Gives a figure of `WIDTH` x height pixels; settings of the user or of other code do not reach it."""
    with style.context(["default", _STYLE]), warnings.catch_warnings():
        # The browser sets the words with its own fonts, so what matplotlib's font lacks does not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield Figure(figsize=(WIDTH / 72, height / 72), dpi=72)


def axes_at(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Axes without a frame at left, bottom, width, height in pixels."""
    across, up = figure.get_size_inches() * 72
    left, bottom, width, height = box
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    return axes


def short(name: str, longest: int = LONGEST_NAME) -> str:
    """A name in one line of at most so many characters; what cannot be printed is marked."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(name.split()))
    return line if len(line) <= longest else f"{line[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"


def inline(figure: Figure, key: str, said: str) -> Markup:
    """The figure as an `<svg>` element with `said` as its text for those who cannot see it."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for the whole page
    # Only what is inside of a tag is touched: words between tags may look like anything.
    svg = re.sub(r"<[^<>]+>", lambda tag: _adapt(tag[0], key), svg)
    about = f'<svg role="img" aria-label="{escape(said)}"'
    return Markup(svg.replace("<svg", about, 1))  # noqa: S704  matplotlib escapes words, the tests check it


def _adapt(tag: str, key: str) -> str:
    tag = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{key}-", tag)
    tag = re.sub(r"font-family: [^;\"]+;|image-rendering:[\w-]+;?", "", tag)
    tag = re.sub(r"(?<=data:image/png;base64,)[^\"]+", lambda found: _shrink(found[0]), tag)
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, f"var(--{variable})")
    return tag


def _shrink(coded: str) -> str:
    """The same picture with a palette, a third as large; at most 80 colours are in it."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(coded))) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")
