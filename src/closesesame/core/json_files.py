"""JSON files: written in one way, and read from others as a bounded mapping or one sentence."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import DataError, short

MOST_BYTES = 2**22


def to_json(content: Mapping[str, Any]) -> bytes:
    """What `read_json` reads."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Raises:
        DataError: if it cannot be read, is larger than `most_bytes`, or is something else.
    """
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise DataError(f"{path.name} has {size:,} bytes, and at most {most_bytes:,} are read")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is no JSON: {short(error)}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path.name} holds no object in braces")
    return content
