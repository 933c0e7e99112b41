"""Where commands write what they make, and what they write about how it was made."""

import datetime as dt
import math
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closesesame._version import __version__
from closesesame.core.disk import Destination

if TYPE_CHECKING:
    from closesesame.data import Splits

CLEAN_DATA_WARNING = (
    "Clean data alone cannot show that a backdoor is gone: clean accuracy says nothing about a trigger "
    "nobody has played."
)
WAV_HEADER_BYTES = 44


def model_folder(out: Path, inputs: Iterable[Path], *, force: bool) -> Destination:
    """Where a model will be written."""
    from closesesame.models.files import is_model_folder

    return Destination(out, force=force, replaces=is_model_folder, inputs=inputs)


def data_folder(out: Path, inputs: Iterable[Path], *, force: bool) -> Destination:
    """Where a data set will be written."""
    from closesesame.data.export import is_export

    return Destination(out, force=force, replaces=is_export, inputs=inputs)


def purifier_folder(out: Path, inputs: Iterable[Path], *, force: bool) -> Destination:
    """Where a purifier will be written."""
    from closesesame.purification.base import ABOUT, WEIGHTS

    def is_purifier(folder: Path) -> bool:
        return {path.name for path in folder.iterdir()} == {ABOUT, WEIGHTS}

    return Destination(out, force=force, replaces=is_purifier, inputs=inputs)


def size_of(splits: "Splits") -> int:
    """Bytes of all clips as WAV in 16 bits: more than they take as FLAC."""
    return sum(WAV_HEADER_BYTES * len(part) + 2 * math.prod(part.inputs.shape) for part in splits)


def history(by: str, **known: Any) -> dict[str, Any]:
    """What a model's card says about how the model was made."""
    made = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return {"by": by, "version": __version__, "date": made} | known


def as_typed() -> str:
    """The command as it was typed, for a page."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def now() -> str:
    """Date and time, for a page."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
