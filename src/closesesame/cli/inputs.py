"""How commands load what they work on: data sets, clean clips, models, and the exam of a model."""

import csv
import io
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from closesesame.core.bounds import Task
from closesesame.core.errors import DataError, ModelError, SettingError, short

from .options import AUDIO, SYNTHETIC, AudioOptions, CleanOptions, SplitOptions, paths_of
from .printing import notes

if TYPE_CHECKING:
    from closesesame.data import Dataset, Read, ReadAudio, ReadingReport, Splits
    from closesesame.evaluation import Exam
    from closesesame.models import Classifier, ModelCard


@dataclass(frozen=True)
class Source:
    """Where a data set is, and how it is read."""

    place: str
    sample_rate: int
    duration_s: float
    task: Task
    options: SplitOptions = field(default_factory=SplitOptions)
    for_model: bool = False
    """Whether sample rate and duration are those of a model."""
    whole: bool = False
    """Whether all parts are used as one, so that some may be empty."""
    fewest_classes: int = 2

    @property
    def inputs(self) -> tuple[Path, ...]:
        """What is read, which no output may replace."""
        return paths_of(self.place)


def refuse_missing(path: Path) -> None:
    """Refuses a file or folder that is not there.

    Raises:
        DataError: naming it.
    """
    if not path.exists():
        raise DataError(f"{path} is not there; check its name")


def source_of(place: str, options: AudioOptions) -> Source:
    """A data set, read as the options say."""
    return Source(place, options.sample_rate, options.duration_s, options.task or "word", options)


def source_for(card: "ModelCard", place: str, options: SplitOptions) -> Source:
    """A data set, read as a model needs it.

    Raises:
        ModelError: if the model takes no sound.
    """
    if card.sample_rate is None:
        raise ModelError("the model takes no sound; this command reads recordings")
    known = card.made.get("task")  # a model file may hold anything there
    task = options.task or (cast("Task", known) if known in ("word", "speaker") else "word")
    return Source(place, card.sample_rate, card.duration_s, task, options, for_model=True)


def source_as_asked(card: "ModelCard", place: str, options: AudioOptions) -> Source:
    """A data set, read as a model needs it, if the options ask for nothing else.

    Raises:
        ModelError: if the model takes no sound.
        SettingError: if sample rate or duration are others than those of the model.
    """
    source = source_for(card, place, options)
    for name in ("sample_rate", "duration_s"):
        asked, taken = getattr(options, name), getattr(source, name)
        if asked not in {taken, getattr(AUDIO, name)}:
            flag = f"--{name.replace('_', '-')}"
            raise SettingError(f"{flag} is {asked:g}, and the model takes {taken:g}; leave {flag} out")
    return source


def read(source: Source) -> "Read":
    """Reads a data set, or synthesises the embedded speech."""
    from closesesame.data import Read, ReadingReport, read_splits
    from closesesame.data.speech import synthetic_speech

    if source.place == SYNTHETIC:
        if source.task == "speaker" or source.options.split != "auto":
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
        split=source.options.split,
        seed=source.options.seed,
        skip_bad=source.options.skip_bad,
        whole=source.whole,
        fewest_classes=source.fewest_classes,
    )


def load(source: Source) -> "Splits":
    """Reads a data set as `read` does, and prints on standard error what may surprise."""
    found = read(source)
    look_at(found.report, source)
    return found.splits


def load_part(source: Source, part: str) -> "Dataset":
    """Reads one part of a data set, or `all` of it."""
    from closesesame.data import read_folder

    if part != "all":
        found: Dataset = getattr(load(source), part)
        return found
    if source.place == SYNTHETIC:
        raise SettingError("'synthetic' has parts; take one of them, such as --part validation")
    whole = read_folder(
        source.place,
        sample_rate=source.sample_rate,
        duration_s=source.duration_s,
        task=source.task,
        skip_bad=source.options.skip_bad,
    )
    look_at(whole.report, source)
    return whole.data


def look_at(report: "ReadingReport", source: Source) -> None:
    """Prints on standard error what may surprise in the recordings of a data set.

    Raises:
        DataError: if nothing can be heard in any recording.
    """
    if report.silent:
        raise DataError(f"{source.place}: all recordings are silent; name recordings with sound")
    notes(report.surprises(length_known=source.for_model))


def load_for(card: "ModelCard", place: str, options: SplitOptions) -> "Splits":
    """Reads a data set as a model needs it, with the model's classes in the model's order."""
    splits = load(source_for(card, place, options))
    return type(splits)(*(fitting(card, place, part) for part in splits))


def load_part_for(card: "ModelCard", place: str, part: str, options: SplitOptions) -> "Dataset":
    """As `load_for`, one part or all."""
    return fitting(card, place, load_part(source_for(card, place, options), part))


def fitting(card: "ModelCard", place: str, data: "Dataset") -> "Dataset":
    """Examples that were read from a place, with labels that are indices into a model's classes.

    Raises:
        ModelError: if they do not fit the model; it names the place.
    """
    from closesesame.models.matching import data_for

    try:
        return data_for(card, data)
    except ModelError as error:
        raise ModelError(f"{place}: {error}") from None


def refuse_poisoned(clean: CleanOptions) -> None:
    """Refuses, before any work, clean clips that `sesame poison` poisoned: the training part of its output.

    Raises:
        DataError: if they are that.
    """
    for path in clean.inputs:
        folder = path if path.is_dir() else path.parent
        if clean.clean_part in {"train", "all"} and (folder / "_trigger").is_dir():
            raise DataError(
                f"{path} holds clips that 'sesame poison' poisoned; name clean ones, or take its validation "
                "part"
            )


def poisoned_in(place: str, ids: Collection[str]) -> dict[str, bool] | None:
    """Which clips `sesame poison` poisoned, by id, as its manifest says.

    Returns None for another data set, and for one that holds more clips than the manifest does.

    Raises:
        DataError: if the manifest cannot be read.
    """
    from closesesame.data.listing import MANIFEST
    from closesesame.data.lists import read_text

    folder = Path(place) if Path(place).is_dir() else Path(place).parent
    if place == SYNTHETIC or not (folder / "_trigger").is_dir() or not (folder / MANIFEST).is_file():
        return None
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(folder / MANIFEST))))
    except csv.Error as error:
        raise DataError(f"{folder / MANIFEST} is no CSV table ({short(error)})") from None
    known = {row.get("path"): row.get("poisoned") == "1" for row in rows}
    return {name: known[name] for name in ids} if set(ids) <= known.keys() else None


def not_poisoned(place: str, data: "Dataset") -> "Dataset":
    """The clips of a data set that `sesame poison` left as they were, as far as its manifest says."""
    poisoned = poisoned_in(place, data.ids) or {}
    return data.named([name for name in data.ids if not poisoned.get(name)])


def clean_for(method: str, clean: CleanOptions, *, needed: bool) -> CleanOptions:
    """The clean clips that are read for a method: those that are named if it needs some, or else none.

    Raises:
        DataError: if it needs some and none are named, or if 'sesame poison' poisoned them.
    """
    if not needed:
        if clean.clean is not None:
            notes([f"{method} does not look at clean recordings; those of --clean are not read"])
        return CleanOptions()
    if clean.clean is None:
        raise DataError(f"{method} needs clean recordings: name them with --clean")
    refuse_poisoned(clean)
    return clean


def load_clean(
    card: "ModelCard",
    clean: CleanOptions,
    options: SplitOptions,
    missing_sentence: Callable[[tuple[str, ...], int], str],
) -> "Dataset | None":
    """Reads the clean clips that a method gets; None if none are named.

    Args:
        card: of the model that the method works on.
        clean: which clips.
        options: how the data set is read.
        missing_sentence: says what it means for a method of this family that classes have no clip, from
            their names and the number of all classes.

    Raises:
        DataError: if a class of the model has no clip, and that was not accepted.
    """
    if clean.clean is None:
        return None
    found = load_part_for(card, clean.clean, clean.clean_part, options).sample(clean.fraction, options.seed)
    missing = found.missing()
    if missing and not clean.partial:
        sentence = missing_sentence(missing, len(found.classes))
        more = "" if clean.clean_part == "all" else ", take all clips with --clean-part all"
        raise DataError(f"{sentence}{more}, or accept that with --partial")
    return found


def refuse_labelled(audio: Path, clean: CleanOptions) -> None:
    """Refuses, before any work, unlabelled audio that is no folder of other recordings than the clean ones.

    Raises:
        DataError: if it holds no recording, or one of the data set of the clean clips, or clips that
            'sesame poison' poisoned.
    """
    from closesesame.data.folders import list_recordings
    from closesesame.data.unlabelled import find_audio

    found = find_audio(audio)
    if (audio / "_trigger").is_dir():
        raise DataError(f"{audio} holds clips that 'sesame poison' poisoned; name a folder of other speech")
    files = {path.resolve() for path in found.recordings.values()}
    for place in clean.inputs:
        shared = files & {recording.path.resolve() for recording in list_recordings(place)}
        if shared:
            raise DataError(
                f"{len(shared):,} of {len(files):,} recordings in {audio} are also in {place}, the data set "
                "of the clean clips; name a folder of other recordings with --audio"
            )


def load_audio(card: "ModelCard", audio: Path, options: SplitOptions) -> "ReadAudio":
    """Reads unlabelled audio as a model needs it, and prints on standard error what came of it.

    Raises:
        ModelError: if the model takes no sound.
    """
    from closesesame.data import read_audio

    source = source_for(card, str(audio), options)
    found = read_audio(
        audio,
        sample_rate=source.sample_rate,
        duration_s=source.duration_s,
        seed=options.seed,
        skip_bad=options.skip_bad,
    )
    notes(found.surprises())
    return found


def load_model_on(folder: Path, device: str, purifier: Path | None = None) -> "Classifier":
    """Loads a model folder onto a device, with a purifier in front of the model if one is named."""
    from closesesame.models import load_model

    model = load_model(folder, device_of(device))
    if purifier is None:
        return model
    from closesesame.purification.files import load_purifier

    return load_purifier(purifier).before(model)


def findings_in(model: "Classifier") -> list[str]:
    """What is noteworthy in the graph of a model that is a file, in sentences; nothing of another model."""
    from closesesame.models.black_boxes import FileBody

    if not isinstance(model.body, FileBody):
        return []
    return [
        f"{finding.sentence}{' (models without a backdoor rarely do that)' * finding.suspicious}"
        for finding in model.body.runtime.findings
    ]


def device_of(name: str) -> str:
    """The name of a device that this machine has.

    Raises:
        SettingError: if there is no such device.
    """
    from closesesame.core.machine import choose_device

    return str(choose_device(name, setting="--device"))


def exam_on(splits: "Splits", trigger: Path | None, reference: Path | None, device: str = "cpu") -> "Exam":
    """The exam on the test part, with a trigger and a clean reference model if they are named."""
    from closesesame.attacks.files import load_trigger
    from closesesame.evaluation import Exam

    if trigger is None and reference is not None:
        raise SettingError("--reference is compared on triggered clips: name a trigger with --trigger, too")
    loaded = None if trigger is None else load_trigger(trigger)
    return Exam(splits.test, loaded, None if reference is None else load_model_on(reference, device))


def settings_of(pairs: list[str] | None) -> dict[str, object]:
    """The settings in a list of FIELD=VALUE."""
    found: dict[str, object] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise SettingError(f"--set takes FIELD=VALUE, got {pair!r}")
        if name.strip() in found:
            raise SettingError(f"--set gives {name.strip()!r} twice")
        found[name.strip()] = value.strip()
    return found
