"""The picture of the report that the README shows: `results/report.png`.

python -m benchmarks screenshot              run the demo, open its page in headless Chromium
python -m benchmarks screenshot page.html    a page that is there
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from closesesame.demo import run
from closesesame.report import write_report

from . import RESULTS

OUT = RESULTS / "report.png"
SIZE = (1280, 800)
COLOURS = 128
QUIET = ("gpu", "quic", "background-networking", "component-update", "sync")


def photograph(page: Path, picture: Path) -> None:
    """Opens a page in a window of `SIZE` and writes what is seen."""
    with tempfile.TemporaryDirectory() as profile:
        command = ["chromium", "--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars"]
        command += [f"--disable-{feature}" for feature in QUIET]
        command += [f"--user-data-dir={profile}", f"--window-size={SIZE[0]},{SIZE[1]}"]
        command += [f"--screenshot={picture}", page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def shrink(picture: Path, out: Path) -> None:
    """Writes the picture with a palette, a third as large."""
    with Image.open(picture) as whole:
        few = whole.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(out, "PNG", optimize=True)


def main() -> None:
    """Makes the page if none is given, and the picture."""
    with tempfile.TemporaryDirectory() as folder:
        page, picture = Path(folder, "page.html"), Path(folder, "page.png")
        if len(sys.argv) > 1:
            page = Path(sys.argv[1])
        else:
            write_report(run(seed=0).page, page)
        photograph(page, picture)
        shrink(picture, OUT)
    print(f"{OUT}: {OUT.stat().st_size // 1024} kB")
