"""The figure of the README: ASR before and after each removal, and what each costs a clean model."""

from collections.abc import Iterator

from closesesame.evaluation.measures import ASR

from .pages import Contents, development_rows, ranked
from .rows import BARE, Rows, distinct, lost_acc, mean, method_of, points, poisoned, where
from .svg import AFTER, BEFORE, COST, FAINT, GRID, INK, document, text

ROW, TOP, LEFT, PANEL, GAP, BARS, BOTTOM = 22, 62, 128, 165, 36, 130, 40


def figure(contents: Contents) -> str:
    """An SVG: one row a removal, one panel an attack, and one for ACC that a clean model loses."""
    rows = development_rows(contents)
    attacks = [attack for (attack,) in distinct(rows, "attack")]
    names = ranked(rows)
    lost = {
        name: lost_acc([row for row in poisoned(rows, wanted=False) if method_of(row) == name], rows) or 0.0
        for name in names
    }
    width = LEFT + len(attacks) * (PANEL + GAP) + BARS + GAP
    height = TOP + ROW * len(names) + BOTTOM
    marks = [text(LEFT - 12, TOP + ROW * n + 15, name, "end") for n, name in enumerate(names)]
    for number, attack in enumerate(attacks):
        marks += _panel(LEFT + number * (PANEL + GAP), attack, names, where(rows, attack=attack))
    marks += _bars(LEFT + len(attacks) * (PANEL + GAP), names, lost)
    marks += _key(LEFT, height - 14)
    title = "ASR before and after each removal, and the clean accuracy that each costs"
    return document(width, height, title, marks)


def _panel(left: int, attack: str, names: list[str], rows: Rows) -> Iterator[str]:
    yield text(left + PANEL / 2, 24, attack, "middle", weight="600")
    yield from _grid(left, PANEL, len(names), ((0, "0"), (0.5, "50"), (1, "100 %")))
    for number, name in enumerate(names):
        mine = [row for row in poisoned(rows) if method_of(row) == name]
        same = {row["seed"] for row in mine}
        bare = [row for row in poisoned(rows) if row["method_name"] == BARE and row["seed"] in same]
        y = TOP + ROW * number + ROW / 2
        before, after = mean(bare, ASR), mean(mine, ASR)
        if before is None or after is None:
            yield text(left + PANEL / 2, y + 4, "not measured", "middle", FAINT, size=10)
            continue
        start, end = (left + PANEL * share for share in (before, after))
        yield f'<path d="M{start:.1f} {y:.1f}H{end:.1f}" stroke="{BEFORE}" stroke-width="2"/>'
        yield _before(start, y)
        yield _after(end, y)


def _bars(left: int, names: list[str], lost: dict[str, float]) -> Iterator[str]:
    most = max(0.1, *lost.values())
    yield text(left + BARS / 2, 24, "Clean model: ACC lost", "middle", weight="600")
    yield from _grid(left, BARS, len(names), ((0, "0"), (1, f"{100 * most:.0f} points")))
    for number, name in enumerate(names):
        y, wide = TOP + ROW * number, max(0.0, BARS * lost[name] / most)
        yield f'<rect x="{left}" y="{y + 6}" width="{wide:.1f}" height="10" fill="{COST}"/>'
        inside = wide > BARS - 40
        at, side, colour = (left + wide - 5, "end", "#ffffff") if inside else (left + wide + 5, "start", INK)
        yield text(at, y + 15, points(lost[name]), side, colour, size=10)


def _grid(left: int, width: int, count: int, ticks: tuple[tuple[float, str], ...]) -> Iterator[str]:
    for share, name in ticks:
        x = left + width * share
        yield f'<path d="M{x:.1f} {TOP - 6}V{TOP + ROW * count}" stroke="{GRID}"/>'
        yield text(x, TOP - 12, name, "middle", FAINT, size=10)


def _key(left: float, y: float) -> Iterator[str]:
    yield _before(left, y - 4)
    yield text(left + 10, y, "ASR before", "start", size=11)
    yield _after(left + 96, y - 4)
    yield text(left + 106, y, "ASR after the removal (means over the seeds; sorted by RA)", "start", size=11)


def _before(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#ffffff" stroke="{FAINT}" stroke-width="1.5"/>'


def _after(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{AFTER}"/>'
