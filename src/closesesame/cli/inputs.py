"""What commands take alike: settings, data sets, how recordings are read, and what they are measured with."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from cyclopts import Parameter
from cyclopts.validators import Number

from closesesame.core.bounds import LEAST_HZ, LEAST_S, MOST_HZ, MOST_S, SplitRule, Task
from closesesame.core.errors import ModelError, SettingError

from .outputs import notes

if TYPE_CHECKING:
    from closesesame.data import Dataset, Read, Splits
    from closesesame.evaluation import Exam
    from closesesame.models import Classifier, ModelCard

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON on standard output.")]
Force = Annotated[
    bool, Parameter(name="--force", negative="", help="Replace what an earlier run made in the same place.")
]
Set = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="A setting of the method, FIELD=VALUE; may be repeated."),
]
Data = Annotated[
    str, Parameter(help="Folder of recordings, a table of them (.csv), or 'synthetic'; see 'sesame data'.")
]
Device = Annotated[str, Parameter(help="What computes: cpu, cuda, cuda:N, mps, or auto for a GPU.")]
Seed = Annotated[
    int, Parameter(help="Of everything that is drawn at random.", validator=Number(gte=0, lt=2**63))
]
Fraction = Annotated[float, Parameter(validator=Number(gt=0, lte=1))]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Parts:
    """How a data set is split, and what its labels are."""

    task: Annotated[
        Task | None, Parameter(help="What the label is; if not given, as the model knows it, or 'word'.")
    ] = None
    split: Annotated[SplitRule, Parameter(help="How training, validation and test part are told apart.")] = (
        "auto"
    )
    seed: Seed = 0
    skip_bad: Annotated[
        bool, Parameter(negative="", help="Leave out recordings that cannot be used, and list them.")
    ] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reading(Parts):
    """How recordings are read where no model says it."""

    sample_rate: Annotated[
        int,
        Parameter(help="Recordings are resampled to it, Hz.", validator=Number(gte=LEAST_HZ, lte=MOST_HZ)),
    ] = 16_000
    duration_s: Annotated[
        float,
        Parameter(
            help="Length of every clip, s: longer ones are cut, shorter ones padded.",
            validator=Number(gte=LEAST_S, lte=MOST_S),
        ),
    ] = 1.0


@dataclass(frozen=True)
class Source:
    """Where a data set is, and how it is read."""

    place: str
    sample_rate: int
    duration_s: float
    task: Task
    parts: Parts = field(default_factory=Parts)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """What is read, which no output may replace."""
        return () if self.place == "synthetic" else (Path(self.place),)


def source_of(place: str, how: Reading) -> Source:
    """A data set, read as the command line says."""
    return Source(place, how.sample_rate, how.duration_s, how.task or "word", how)


def source_for(card: "ModelCard", place: str, parts: Parts) -> Source:
    """A data set, read as a model wants it.

    Raises:
        ModelError: if the model takes no sound.
    """
    if card.sample_rate is None:
        raise ModelError("the model takes no sound; this command reads recordings")
    known = card.made.get("task")  # whatever a file says
    task = parts.task or (cast("Task", known) if known in ("word", "speaker") else "word")
    return Source(place, card.sample_rate, card.duration_s, task, parts)


def read(source: Source) -> "Read":
    """Reads a data set, or makes the synthetic one."""
    from closesesame.data import Read, ReadingReport, read_splits
    from closesesame.data.speech import synthetic_speech

    if source.place == "synthetic":
        if source.task == "speaker" or source.parts.split != "auto":
            raise SettingError(
                "'synthetic' has words for labels and parts of its own: leave out --task and --split"
            )
        made = synthetic_speech(sample_rate=source.sample_rate, duration_s=source.duration_s)
        return Read(made, ReadingReport.of(made))
    return read_splits(
        source.place,
        sample_rate=source.sample_rate,
        duration_s=source.duration_s,
        task=source.task,
        split=source.parts.split,
        seed=source.parts.seed,
        skip_bad=source.parts.skip_bad,
    )


def load(source: Source) -> "Splits":
    """Reads a data set as `read` does; what surprises is said on standard error."""
    found = read(source)
    notes(found.report.surprises())
    return found.splits


def load_for(card: "ModelCard", place: str, parts: Parts) -> "Splits":
    """Reads a data set the way a model wants it, with the model's classes in the model's order."""
    from closesesame.models.matching import data_for

    splits = load(source_for(card, place, parts))
    return type(splits)(*(data_for(card, part) for part in splits))


def load_whole(card: "ModelCard", place: str, parts: Parts) -> "Dataset":
    """As `load_for`, and not split."""
    from closesesame.data import read_folder
    from closesesame.models.matching import data_for

    source = source_for(card, place, parts)
    if place == "synthetic":
        raise SettingError("'synthetic' has parts; take one of them, such as --part validation")
    whole = read_folder(
        place,
        sample_rate=source.sample_rate,
        duration_s=source.duration_s,
        task=source.task,
        skip_bad=parts.skip_bad,
    )
    notes(whole.report.surprises())
    return data_for(card, whole.data)


def load_on(folder: Path, device: str) -> "Classifier":
    """Reads a model folder onto a device."""
    from closesesame.models import load_model

    return load_model(folder, device_of(device))


def device_of(name: str) -> str:
    """The name of a device that is there.

    Raises:
        SettingError: if it is none, or this machine lacks it.
    """
    from closesesame.core.machine import choose_device

    return str(choose_device(name, setting="--device"))


def exam_on(splits: "Splits", trigger: Path | None, reference: Path | None, device: str = "cpu") -> "Exam":
    """The test part, with what is judged against it."""
    from closesesame.attacks.files import load_trigger
    from closesesame.evaluation import Exam

    if trigger is None and reference is not None:
        raise SettingError("--reference is compared on triggered clips: name a trigger with --trigger, too")
    loaded = None if trigger is None else load_trigger(trigger)
    return Exam(splits.test, loaded, None if reference is None else load_on(reference, device))


def settings_of(pairs: list[str] | None) -> dict[str, object]:
    """FIELD=VALUE, taken apart."""
    found: dict[str, object] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise SettingError(f"--set takes FIELD=VALUE, got {pair!r}")
        if name.strip() in found:
            raise SettingError(f"--set gives {name.strip()!r} twice")
        found[name.strip()] = value.strip()
    return found


def distinct_names(paths: list[Path]) -> list[str]:
    """A name for each path: its last part, or as many of its last parts as tell it from the others.

    Raises:
        SettingError: if a path is given twice.
    """
    whole = [path.resolve() for path in paths]
    for path, place in zip(paths, whole, strict=True):
        if whole.count(place) > 1:
            raise SettingError(f"{path} is given twice; give each model once")
    names = []
    for place in whole:
        tails = range(1, len(place.parts) + 1)
        names.append(
            next(
                "/".join(place.parts[-n:])
                for n in tails
                if sum(other.parts[-n:] == place.parts[-n:] for other in whole) == 1
            )
        )
    return names
