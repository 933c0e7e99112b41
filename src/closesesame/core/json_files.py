"""JSON files that others wrote: bounded, and a mapping or one sentence."""

import json
from pathlib import Path
from typing import Any

from .errors import DataError, short

MOST_BYTES = 2**22


def read_json(path: Path) -> dict[str, Any]:
    """Reads a small JSON file that holds an object.

    Raises:
        DataError: if it cannot be read, is larger than 4 MB, or is something else.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise DataError(f"{path.name} has {size:,} bytes, and at most {MOST_BYTES:,} are read")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is no JSON: {short(error)}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path.name} holds no object in braces")
    return content
