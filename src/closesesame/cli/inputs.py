"""What commands take alike: settings, data sets, how recordings are read, and what they are measured with."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from closesesame.core.errors import ModelError, SettingError

if TYPE_CHECKING:
    from closesesame.data import Splits
    from closesesame.evaluation import Exam
    from closesesame.models import Classifier

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON on standard output.")]
Set = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="A setting of the method, FIELD=VALUE; may be repeated."),
]
Data = Annotated[str, Parameter(help="Folder with one folder of recordings a class; or 'synthetic'.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Parts:
    """How a data set is split, and what its labels are."""

    task: Annotated[Literal["word", "speaker"], Parameter(help="What the label is.")] = "word"
    split: Annotated[
        Literal["auto", "lists", "speakers", "takes", "random"],
        Parameter(help="How training, validation and test part are told apart."),
    ] = "auto"
    seed: Annotated[int, Parameter(help="Of everything that is drawn at random.")] = 0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reading(Parts):
    """How recordings are read where no model says it."""

    rate: Annotated[int, Parameter(help="Sample rate recordings are read at, Hz.")] = 16_000
    duration: Annotated[float, Parameter(help="Length of every clip, s.")] = 1.0


def load(source: str, how: Reading) -> "Splits":
    """Reads a data set, or makes the synthetic one."""
    from closesesame.data import load_splits
    from closesesame.data.speech import synthetic_speech

    if source == "synthetic":
        return synthetic_speech(sample_rate=how.rate, duration_s=how.duration)
    return load_splits(
        source,
        sample_rate=how.rate,
        duration_s=how.duration,
        task=how.task,
        split=how.split,
        seed=how.seed,
    )


def load_for(model: "Classifier", source: str, parts: Parts) -> "Splits":
    """Reads a data set the way a model wants it, with the model's labels."""
    card = model.card
    if card.sample_rate is None:
        raise ModelError("the model takes no sound; this command reads recordings")
    duration = card.input_shape[0] / card.sample_rate
    splits = load(source, Reading(**asdict(parts), rate=card.sample_rate, duration=duration))
    return type(splits)(*(part.with_classes(card.classes) for part in splits))


def exam_on(splits: "Splits", trigger: Path | None, reference: Path | None) -> "Exam":
    """The test part, with what is judged against it."""
    from closesesame.attacks import load_trigger
    from closesesame.evaluation import Exam
    from closesesame.models import load_model

    loaded = None if trigger is None else load_trigger(trigger)
    return Exam(splits.test, loaded, None if reference is None else load_model(reference))


def settings_of(pairs: list[str] | None) -> dict[str, object]:
    """FIELD=VALUE, taken apart."""
    found: dict[str, object] = {}
    for pair in pairs or []:
        field, equals, value = pair.partition("=")
        if not equals or not field:
            raise SettingError(f"--set takes FIELD=VALUE, got {pair!r}")
        found[field.strip()] = value.strip()
    return found
