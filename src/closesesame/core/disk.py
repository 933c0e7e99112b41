"""Files that are the old one or the new one at any moment."""

import tempfile
from pathlib import Path


def write_whole(text: str, path: Path) -> Path:
    """Writes a text file, whole or not at all; an old file there is replaced. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        made = Path(folder) / path.name
        made.write_text(text, encoding="utf-8")
        made.replace(path)
    return path
