"""Pages, figure and README from the files in `results`, lists from the registries: nothing typed by hand.

python -m benchmarks render            write
python -m benchmarks render --check    fail if what is written is not what the files say
"""

import json
import sys
from pathlib import Path
from typing import Any

from closesesame.bench.table import refuse_mixed
from closesesame.core.disk import write_whole
from closesesame.core.errors import DataError

from .answers import results_page
from .canaries import scatter
from .clean_label import clean_label
from .courses import learned
from .figure import figure
from .pages import mixed, texts
from .readme import StaleExampleError, contributing, readme
from .why import why

HERE = Path(__file__).parents[1]
RESULTS = HERE / "results"
FIGURES = {"canaries": scatter, "why_restore": why, "courses": learned, "clean_label": clean_label}
"""What draws a figure of a result file, beside it."""
README, GUIDE = HERE.parent / "README.md", HERE.parent / "CONTRIBUTING.md"


def main() -> int:
    """Writes, or checks, all of it; 1 if files do not go together or what is written is stale."""
    contents = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    if wrong := "; ".join(refusals(contents)):
        print(wrong)
        return 1
    try:
        made = rendered(contents)
    except StaleExampleError as error:
        print(error)
        return 1
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        if stale:
            print(f"{', '.join(path.name for path in stale)} must be rendered again: make results")
        return bool(stale)
    for path in stale:
        write_whole(made[path], path)
    return 0


def rendered(contents: dict[str, Any]) -> dict[Path, str]:
    """Every file that is made from the result files, with its text."""
    pages = {RESULTS / f"{name}.md": text for name, text in texts(contents).items()}
    one = {HERE / "RESULTS.md": results_page(contents), RESULTS / "removals.svg": figure(contents)}
    words = {README: readme(README.read_text(), contents), GUIDE: contributing(GUIDE.read_text())}
    drawn = {
        RESULTS / f"{name}.svg": draw(contents[name]) for name, draw in FIGURES.items() if name in contents
    }
    return pages | one | drawn | words


def refusals(contents: dict[str, Any]) -> list[str]:
    """What must not stand in one table."""
    found = []
    for name, content in contents.items():
        if odd := mixed(content["rows"]):
            found.append(f"{name}.json: {odd} was measured with more than one trigger or reference model")
        try:
            refuse_mixed(content["rows"] if "precision_train" in content["rows"][0] else [])
        except DataError as error:
            found.append(f"{name}.json: {error}")
    return found
