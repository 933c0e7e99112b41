"""Options that several commands take: kinds of files, and how data sets are read and split."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from closesesame.core.bounds import LEAST_HZ, LEAST_S, MOST_HZ, MOST_S, SplitRule, Task

SYNTHETIC = "synthetic"
"""Stands for the embedded speech where a data set is named."""
PartName = Literal["train", "validation", "test", "all"]

Data = Annotated[
    str, Parameter(help="Folder of recordings, a table of them (.csv), or 'synthetic'; see 'sesame data'.")
]
ModelFolder = Annotated[Path, Parameter(help="A model folder, as 'sesame train' writes it.")]
Trigger = Annotated[
    Path | None, Parameter(help="A trigger folder, as 'sesame poison' writes it: '_trigger' in its output.")
]
Reference = Annotated[
    Path | None,
    Parameter(help="A clean reference model of the same architecture: its RA stands beside the model's."),
]
Unlabelled = Annotated[
    Path | None,
    Parameter(
        help="Folder of any speech, for restore to learn from beside the clean clips; labels are not read."
    ),
]
Set = Annotated[
    list[str] | None,
    Parameter(name="--set", help="A setting of the method, FIELD=VALUE; may be repeated."),
]
Force = Annotated[
    bool, Parameter(name="--force", help="Replace what an earlier run wrote to the same place.")
]
SkipBad = Annotated[bool, Parameter(help="Leave out recordings that cannot be used, and list them.")]
Device = Annotated[str, Parameter(help="Where to compute: cpu, cuda, cuda:N, mps, or auto for a GPU.")]
Seed = Annotated[int, Parameter(help="Seed of all random draws.", validator=Number(gte=0, lt=2**63))]
Part = Annotated[
    PartName,
    Parameter(help="Part of the clean data to use; 'train' leaves the test part for 'sesame evaluate'."),
]
Fraction = Annotated[
    float, Parameter(help="Share of that part to use, drawn at random.", validator=Number(gt=0, lte=1))
]
Purifier = Annotated[
    Path | None,
    Parameter(help="A purifier folder, as 'sesame purify' writes it, to put in front of the model."),
]
SampleRate = Annotated[
    int,
    Parameter(
        help="Sample rate in Hz; recordings are resampled to it.",
        validator=Number(gte=LEAST_HZ, lte=MOST_HZ),
    ),
]
Duration = Annotated[
    float,
    Parameter(
        help="Length of every clip in seconds: longer ones are cut, shorter ones padded.",
        validator=Number(gte=LEAST_S, lte=MOST_S),
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How a data set is split, and what its labels are."""

    task: Annotated[
        Task | None, Parameter(help="What the labels are; by default what the model knows, or 'word'.")
    ] = None
    split: Annotated[
        SplitRule, Parameter(help="What decides between training, validation and test part.")
    ] = "auto"
    seed: Seed = 0
    skip_bad: SkipBad = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AudioOptions(SplitOptions):
    """The same, and how recordings are read where there is no model to say it."""

    sample_rate: SampleRate = 16_000
    duration_s: Duration = 1.0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CleanOptions:
    """Which clean clips a method gets."""

    clean: Annotated[
        str | None,
        Parameter(help="Recordings known to be clean, as a data set; data-free methods need none."),
    ] = None
    clean_part: Part = "train"
    fraction: Fraction = 1.0
    partial: Annotated[bool, Parameter(help="Accept clean data that lacks some classes.")] = False

    @property
    def inputs(self) -> tuple[Path, ...]:
        """What is read, which no output may replace."""
        return () if self.clean is None else paths_of(self.clean)


def paths_of(place: str) -> tuple[Path, ...]:
    """The files behind the name of a data set: none behind the embedded speech."""
    return () if place == SYNTHETIC else (Path(place),)


SPLIT, AUDIO, CLEAN = SplitOptions(), AudioOptions(), CleanOptions()
"""The defaults."""
