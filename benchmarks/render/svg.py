"""Marks of the figures of result pages, as SVG: one look for all of them."""

from collections.abc import Iterable, Sequence
from html import escape

BEFORE, AFTER, COST, GRID, INK, FAINT = "#b9b9b9", "#c8432b", "#3b6ea8", "#e4e4e4", "#222222", "#767676"


def document(width: float, height: float, title: str, marks: Iterable[str]) -> str:
    """A whole figure on white paper; the title is what a screen reader says."""
    paper = f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">\n<title>{escape(title)}</title>\n'
        + "\n".join((paper, *marks))
        + "\n</svg>\n"
    )


def text(
    x: float, y: float, words: str, side: str, colour: str = INK, *, weight: str = "400", size: int = 12
) -> str:
    """Words at a place; `side` is the end of them that is there: start, middle or end."""
    style = f'text-anchor="{side}" fill="{colour}" font-weight="{weight}" font-size="{size}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def dot(x: float, y: float, colour: str, *, radius: float = 2.5, full: bool = True) -> str:
    """A dot; one that is not full is a ring."""
    paint = f'fill="{colour}" fill-opacity="0.7"' if full else f'fill="none" stroke="{colour}"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" {paint}/>'


def path(places: Sequence[tuple[float, float]], colour: str) -> str:
    """A thick line through places."""
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'


def line(
    x: float, y: float, *, to_x: float | None = None, to_y: float | None = None, dashed: bool = False
) -> str:
    """A thin line across or down."""
    end = f"H{to_x:.1f}" if to_x is not None else f"V{to_y:.1f}"
    return f'<path d="M{x:.1f} {y:.1f}{end}" stroke="{GRID if not dashed else FAINT}"' + (
        ' stroke-dasharray="3 3"/>' if dashed else "/>"
    )
