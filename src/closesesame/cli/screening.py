"""The two long steps of a screening, a plain model and the scores; after a kill neither is done twice."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StrictFloat, StrictStr

from closesesame.cli.inputs import Source, fitting, look_at, read, source_as_asked, source_of
from closesesame.cli.options import AudioOptions, CleanOptions, PartName
from closesesame.cli.outputs import history
from closesesame.cli.printing import notes
from closesesame.core.errors import ClosesesameError, DataError, counted, cut
from closesesame.core.json_files import read_json, to_json
from closesesame.core.settings import Settings
from closesesame.core.unfinished import Unfinished

if TYPE_CHECKING:
    from closesesame.bench.identity import Code
    from closesesame.core.types import Mask
    from closesesame.data import Dataset, Read, Splits
    from closesesame.detection import Detection, Suspicion
    from closesesame.detection.flagging import Scores
    from closesesame.models import Classifier

ARCHITECTURE = "resnet"
"""What is trained where no model is named, as by `sesame train`."""
ABOUT = "screening.json"
MODEL, SCORES = "model", "scores"
MOST_BYTES = 2**28


class About(Settings):
    """What stands in `screening.json`.

    Attributes:
        key: the same for equal work, and for no other.
        clean_scores: of the clean clips that were scored beside the others.
        threshold: clips with a higher score are flagged.
        why: the sentence on that.
    """

    key: StrictStr
    clean_scores: tuple[StrictFloat, ...] = ()
    threshold: StrictFloat | None = None
    why: Annotated[StrictStr, Field(max_length=1000)] = ""


@dataclass(frozen=True, eq=False)
class Given:
    """What a screening has.

    Attributes:
        splits: the data set in its parts.
        part: which of them is screened, or all.
        clean: clean clips for the method, if it needs some.
        beside: other clean clips, which are scored beside the examples for a threshold.
        contents: digests of all recordings, by their data set and their id.
        lengths_s: of the recordings of the data set, by id.
        seed: of everything drawn.
        task: what the labels are.
        data: the name of the data set.
    """

    splits: "Splits"
    part: PartName
    clean: "Dataset | None"
    beside: "Dataset | None"
    contents: Mapping[str, Mapping[str, str]]
    lengths_s: Mapping[str, float]
    seed: int
    task: str
    data: str

    @cached_property
    def examples(self) -> "Dataset":
        """What is screened."""
        return _part(self.splits, self.part)

    @property
    def training_set(self) -> "Dataset":
        """What a plain model learns: clean clips too, so that it knows them as well as the others."""
        return self.examples if self.beside is None else self.examples.followed_by(self.beside)

    def about(self) -> list[Any]:
        """What depends on the data: which clips have which role, what they hold, and their labels."""
        roles = [self.examples, self.clean, self.beside]
        return [self.seed, self.contents, *(part and [part.ids, part.labels.tolist()] for part in roles)]

    def without(self, left_out: "Mask") -> "Splits":
        """The data set without some of the screened clips (n,)."""
        if self.part != "all":
            return self.splits._replace(**{self.part: self.examples.where(~left_out)})
        masks = left_out.split([len(part) for part in self.splits])
        return type(self.splits)(*(part.where(~mask) for part, mask in zip(self.splits, masks, strict=True)))


def gather(
    place: str,
    part: PartName,
    clean: CleanOptions,
    detection: "Detection",
    model: "Classifier | None",
    options: AudioOptions,
    *,
    threshold: bool,
) -> Given:
    """Reads the data set and the clean clips as the model takes them, or as the options say.

    Args:
        place: of the data set.
        part: what to screen.
        clean: the clean clips.
        detection: a method that needs clean clips gets half of them, of other speakers if they are known.
        model: the suspect, if one is named.
        options: how to read without a model.
        threshold: whether clean clips are scored to find one.

    Raises:
        DataError: if they cannot be read, or the clean ones have other classes.
        ModelError: if they do not fit the model.
        SettingError: if the options ask for what the model does not take.
    """
    one_set, all_clean = clean.clean == place, clean.clean_part == "all"
    read_from = _source(place, model, options, whole=part == "all" and (not one_set or all_clean))
    found = _read(read_from)
    _refuse_one_class(found, place, detection, model)
    splits = type(found.splits)(*(_fitting(one, place, model) for one in found.splits))
    contents, for_method, beside = {place: contents_of(found)}, None, None
    if clean.clean is not None:
        more = found if one_set else _read(_source(clean.clean, model, options, whole=all_clean))
        if detection.needs_clean and len(more.report.classes) < 2:
            raise _one_class(more, clean.clean, f"{detection.name} needs clean recordings of both: add some")
        contents |= {f"clean: {clean.clean}": contents_of(more)}
        known = _fitting(_part(more.splits, clean.clean_part), clean.clean, model)
        try:
            known = known.with_classes(splits.train.classes)
        except DataError as error:
            raise DataError(f"the clean recordings are of another data set: {error}") from None
        if not detection.needs_clean:
            beside = known
        elif threshold:
            for_method, beside = known.hold_out(0.5, options.seed)
        else:
            for_method = known
    return Given(
        splits=splits,
        part=part,
        clean=for_method,
        beside=beside,
        contents=contents,
        lengths_s={clip.note.id: clip.note.length_s for clip in found.report.clips},
        seed=options.seed,
        task=read_from.task,
        data=Path(place).name,
    )


def _source(place: str, model: "Classifier | None", options: AudioOptions, *, whole: bool) -> Source:
    source = source_of(place, options) if model is None else source_as_asked(model.card, place, options)
    return replace(source, whole=whole, fewest_classes=1)


def _refuse_one_class(read: "Read", place: str, detection: "Detection", model: "Classifier | None") -> None:
    """Refuses one class where a model learns from the clips, or learnt from them: not inputs at run time.

    Raises:
        DataError: with the reason.
    """
    if len(read.report.classes) > 1 or (detection.of == "inputs" and model is not None):
        return
    why = (
        "a plain model is trained on them: name the model whose inputs they are with --model"
        if detection.of == "inputs"
        else f"{detection.name} screens training clips: add those of another class, or screen inputs with "
        "--model and a method for them (sesame list detection)"
    )
    raise _one_class(read, place, why)


def _read(source: Source) -> "Read":
    found = read(source)
    look_at(found.report, source)
    return found


def _one_class(read: "Read", place: str, why: str) -> DataError:
    name = cut(read.report.classes[0])
    return DataError(f"{place} has one class, {name!r}; two are needed, since {why}")


def _fitting(data: "Dataset", place: str, model: "Classifier | None") -> "Dataset":
    return data if model is None else fitting(model.card, place, data)


def _part(splits: "Splits", part: PartName) -> "Dataset":
    if part == "all":
        return splits.train.followed_by(splits.validation).followed_by(splits.test)
    found: Dataset = getattr(splits, part)
    return found


def contents_of(read: "Read") -> dict[str, str]:
    """A digest of each clip of a data set, by id."""
    return {clip.note.id: clip.note.digest.hex() for clip in read.report.clips}


@cache
def _code() -> "Code":
    """The code that is hashed: a file is read once."""
    from closesesame.bench.identity import Code

    return Code()


class Work:
    """The model and the scores of a screening, kept beside `OUT` until that is written."""

    def __init__(
        self, out: Path, detection: "Detection", given: Given, model: "Classifier | None", device: str
    ) -> None:
        """Takes what is to be done.

        Args:
            out: of the screening; an earlier one there is not repeated if it is of the same work.
            detection: the method.
            given: what it is given.
            model: the suspect; if None, a plain one is trained.
            device: where it is trained.
        """
        self._out, self._detection, self._given = out, detection, given
        self._named, self._device = model, device
        self._unfinished = Unfinished(out)

    @cached_property
    def key(self) -> str:
        """Of the scores."""
        from closesesame.bench.identity import identity
        from closesesame.models.files import sha256_of

        method = self._detection
        code = _code().of(type(method).__module__, "closesesame.detection.flagging")
        model = self._model_key if self._named is None else sha256_of(self._named)
        return identity(code, method.full_name(), method.settings(), model, self._given.about())

    @cached_property
    def _model_key(self) -> str:
        from closesesame.bench.identity import identity
        from closesesame.models import ARCHITECTURES

        code = _code().of("closesesame.training.loop", ARCHITECTURES[ARCHITECTURE].__module__)
        return identity(code, self._device, self._given.about())

    def scores(self) -> "tuple[Suspicion, Scores]":
        """The suspicion of the examples, and the scores of the clean clips beside them."""
        from closesesame.detection.flagging import score_beside

        kept = self._unfinished.part(SCORES, self.key)
        for folder in (self._out, kept):
            found = _read_scores(folder, self.key)
            if found is not None:
                notes([f"nothing is scored again: {folder} holds the scores of the same clips and method"])
                return found
        given = self._given
        found = score_beside(
            self._detection, self.model, given.examples, given.clean, given.beside, given.seed
        )
        self._unfinished.keep(SCORES, self.key, lambda made: write_scores(made, *found, About(key=self.key)))
        return found

    @cached_property
    def model(self) -> "Classifier":
        """The suspect, or a plain model that is trained on the screened clips and those beside them."""
        if self._named is not None:
            return self._named
        from closesesame.models import ARCHITECTURES, save_model
        from closesesame.training import Training, train

        folder = self._unfinished.part(MODEL, self._model_key)
        kept = _read_model(folder, self._device)
        if kept is not None:
            notes([f"the plain model of an earlier run that did not end is used: {folder}"])
            return kept
        given, training = self._given, Training(device=self._device)
        clips = counted(len(given.examples), "screened clip")
        clips += f" and {counted(len(given.beside), 'clean clip')}" if given.beside else ""
        notes([f"no --model is named, so a plain {ARCHITECTURE} is trained on the {clips} first"])
        trained = train(ARCHITECTURES.make(ARCHITECTURE, {}), given.training_set, training, seed=given.seed)
        made = history(
            "sesame screen", data=given.data, task=given.task, seed=given.seed, training=training.settings()
        )
        trained.card = replace(trained.card, made=made)
        self._unfinished.keep(MODEL, self._model_key, lambda place: save_model(trained, place))
        # Read again, so that a run that goes on after a kill has the very same model.
        return _read_model(folder, self._device) or trained

    def forget(self) -> None:
        """Removes what was kept beside `OUT`, which is there now."""
        self._unfinished.forget(MODEL, SCORES)


def write_scores(folder: Path, suspicion: "Suspicion", clean: "Scores", about: About) -> None:
    """Writes scores into an empty folder, to be read by the next run that is of the same work."""
    suspicion.save(folder)
    known = about.model_dump() | {"clean_scores": clean.tolist()}
    (folder / ABOUT).write_bytes(to_json(known))


def _read_scores(folder: Path, key: str) -> "tuple[Suspicion, Scores] | None":
    """What `write_scores` wrote; None if it is of other work, damaged or missing."""
    import torch

    from closesesame.detection import load_suspicion

    with suppress(ClosesesameError):
        about = About(**read_json(folder / ABOUT, MOST_BYTES))
        if about.key == key:
            return load_suspicion(folder), torch.tensor(about.clean_scores, dtype=torch.float64)
    return None


def _read_model(folder: Path, device: str) -> "Classifier | None":
    """A model that was kept; None if it is damaged or missing."""
    from closesesame.models import load_model

    with suppress(ClosesesameError):
        return load_model(folder, device)
    return None
