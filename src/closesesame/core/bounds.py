"""Ranges that a person could mean, of what commands, recipes and files give and of settings of many methods.

Descriptions, errors and tables read them, so a field says only what is its own.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from .errors import DataError, SettingError, cut

LEAST_HZ, MOST_HZ = 1_000, 192_000
LEAST_S, MOST_S = 0.05, 60.0
MOST_CLASSES = 10_000
LONGEST_NAME = 255
MOST_SAMPLES = int(MOST_HZ * MOST_S)

Task = Literal["word", "speaker"]
"""What the label of a recording is: the name of its class folder, or who speaks."""
SplitRule = Literal["auto", "manifest", "folders", "lists", "speakers", "takes", "random"]
"""How the training, validation and test part of a folder of recordings are told apart."""
SampleRate = Annotated[int, Field(ge=LEAST_HZ, le=MOST_HZ)]
"""Hz."""
Duration = Annotated[float, Field(ge=LEAST_S, le=MOST_S)]
"""Length of a clip in s."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Steps = Annotated[int, Field(ge=0, le=1_000_000)]
"""Batches of a training."""
BatchSize = Annotated[int, Field(ge=2, le=65_536)]
LearningRate = Annotated[float, Field(gt=0, le=10_000)]
WeightDecay = Annotated[float, Field(ge=0, le=10)]
LossWeight = Annotated[float, Field(ge=0, le=1_000_000)]
"""Factor of a term of a loss."""
Seconds = Annotated[float, Field(ge=0.002, le=60)]
"""Length of a sound, or of a part of a clip: two samples or more at any sample rate."""
Hertz = Annotated[float, Field(ge=1, le=96_000)]
"""Up to half the highest sample rate."""
MOST_BYTES = 2_000_000_000
"""Memory that the weights of one network, or the sounds an attack chooses from, may take."""
SNR = Annotated[float, Field(ge=-40, le=60)]
"""dB."""
RecordingPath = Annotated[str | None, Field(json_schema_extra={"file": True})]
"""A recording, or a folder of recordings; none for what stands in for it."""


def check_reading(sample_rate: int, duration_s: float) -> None:
    """Refuses a sample rate or a length that no recording of speech has.

    Raises:
        SettingError: naming the setting.
    """
    for name, value in (("sample_rate", sample_rate), ("duration_s", duration_s)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SettingError(f"{name} must be a number, got {cut(repr(value))}")
    if not LEAST_HZ <= sample_rate <= MOST_HZ or sample_rate != int(sample_rate):
        got = cut(f"{sample_rate:,}")
        raise SettingError(f"sample_rate must be {LEAST_HZ:,} to {MOST_HZ:,} Hz, got {got}")
    if not LEAST_S <= duration_s <= MOST_S:
        raise SettingError(f"duration_s must be {LEAST_S:g} to {MOST_S:g} s, got {duration_s:g}")


def check_classes(classes: Sequence[str], where: object, fewest: int = 2) -> None:
    """Refuses names of classes that cannot be told apart or shown.

    Args:
        classes: the names.
        where: what names them, for the error.
        fewest: how many there must be.

    Raises:
        DataError: naming the first that cannot be used.
    """
    if not fewest <= len(classes) <= MOST_CLASSES:
        raise DataError(
            f"the number of classes of {where} is {len(classes):,}; {fewest} to {MOST_CLASSES:,} are possible"
        )
    seen = set()
    for name in classes:
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise DataError(
                f"{where} has a class {name[:40]!r}; a name has 1 to {LONGEST_NAME} printable characters"
            )
        if name in seen:
            raise DataError(f"{where} has two classes called {cut(name)!r}; names tell classes apart")
        seen.add(name)
