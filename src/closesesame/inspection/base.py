"""The contract of an inspection: a model in, a verdict out."""

import copy
import time
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, final

import torch
from pydantic import Field, StrictBool, StrictFloat, StrictStr
from safetensors.torch import save
from torch import Tensor, nn

from closesesame.core.disk import write_folder
from closesesame.core.errors import ClosesesameError, DataError, DataWarning, DivergedError, ModelError, cut
from closesesame.core.evidence import Evidence, Group, Map, Points
from closesesame.core.json_files import read_json, to_json
from closesesame.core.method import Method
from closesesame.core.settings import Settings
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.black_boxes import FileBody
from closesesame.models.files import read_weights
from closesesame.models.matching import as_classifier, data_for, few, no_examples, say_missing
from closesesame.models.showing import Shows

VERDICT, PATTERN = "verdict.json", "verdict.safetensors"
NAMED = 3
"""Classes that evidence names with their statistics."""


class Inspection(Method, Shows, ABC):
    """A way to tell whether a trained model has a backdoor.

    It sees the model and, unless it is `data_free`, clean examples: nothing of the training set, no
    trigger, no target label, no test set.
    """

    data_free: ClassVar[bool] = False
    """Whether it works without clean examples; it is then shown none."""
    needs_gradients: ClassVar[bool] = False
    """Whether it needs gradients of the model, which a file that is run as it is does not have."""
    least_classes: ClassVar[int] = 2
    """Of how many classes a model must be, for a method that compares classes with each other."""

    @classmethod
    def claims_in_words(cls) -> dict[str, str]:
        """What it needs."""
        return {"needs": "no clips at all" if cls.data_free else "clean clips"}

    @final
    def inspect(self, model: nn.Module, clean: Dataset | None, seed: int) -> "Verdict":
        """Judges a model.

        Args:
            model: the suspect; it is not changed. Any module from inputs to logits will do; one that is not
                ours needs clean examples or `adapt` to tell its classes.
            clean: examples known to be clean, of classes that the model knows, in any order. A method that is
                `data_free` is not shown them; they may be None if the model is one of ours.
            seed: of everything drawn.

        Raises:
            DataError: if clean examples are missing.
            ModelError: if clean examples do not fit the model, or it has too few classes, or no gradients
                where the method needs them.
            DivergedError: if a statistic is NaN or infinite.

        Warns:
            DataWarning: if a class of the model has no clean example, and the method needs them.
        """
        suspect = as_classifier(model, clean)
        if self.needs_gradients and isinstance(suspect.body, FileBody):
            raise ModelError(
                f"{self.name} needs gradients, and {suspect.body.runtime.path} is a file that is run as it "
                "is and has none; import the weights into an architecture"
            )
        classes = suspect.card.classes
        known = no_examples(suspect.card) if clean is None else data_for(suspect.card, clean)
        if self.data_free:
            known = no_examples(suspect.card)
        elif not len(known):
            raise DataError(f"{self.name} needs clean examples, got none")
        elif missing := known.missing():
            warnings.warn(missing_sentence(missing, len(classes)), DataWarning, stacklevel=2)
        if len(classes) < self.least_classes:
            raise ModelError(
                f"{self.name} compares classes and needs {self.least_classes} or more, and the model has "
                f"{len(classes)}"
            )
        started = time.perf_counter()
        copied = copy.deepcopy(suspect).requires_grad_(False).eval()
        verdict = self.judge(copied, known, seed)
        unknown = [name for name in verdict.named if name not in classes]
        if unknown:
            raise ModelError(f"{self.name} names class {few(unknown)}, and the model knows {few(classes)}")
        return replace(
            verdict,
            method=self.full_name(),
            settings=self.settings(),
            seconds=time.perf_counter() - started,
        )

    def evidence(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Evidence:
        """The verdict, what it compares the classes by, and the pattern that it recovers, if any."""
        del examples
        return _evidence_of(self.inspect(model, clean, seed), self.name, model)

    @abstractmethod
    def judge(self, model: Classifier, clean: Dataset, seed: int) -> "Verdict":
        """Hook: the verdict; method, settings and seconds are filled in afterwards.

        Args:
            model: a copy of the suspect, in evaluation mode, without gradients of its weights.
            clean: clean examples; without rows if the method is `data_free`.
            seed: of everything drawn.
        """


def missing_sentence(missing: tuple[str, ...], classes: int) -> str:
    """What it means for an inspection that classes have no clean example."""
    return say_missing(missing, classes, "a backdoor that shows in their clips alone may be missed")


@dataclass(frozen=True, eq=False, kw_only=True)
class Verdict:
    """What an inspection says of a model.

    Attributes:
        backdoored: whether it raises an alarm.
        target: the class that triggered inputs get, by name; None if no class is named.
        p_value: chance of such evidence in a model without a backdoor; None if the method knows none.
        statistics: what the classes were compared by, by name of class.
        compared: what was compared with what, in a few words.
        threshold: an alarm is raised on this side of it; what is compared with it stands in `compared`.
        pattern: the trigger that was recovered, as something that inputs or features take on; None if the
            method recovers none.
        method: which judged.
        settings: of the method.
        seconds: how long it took.

    Raises:
        DivergedError: if a number is NaN or infinite.
        ModelError: if the p-value is no probability, or a target is named without an alarm.
    """

    backdoored: bool
    target: str | None
    statistics: dict[str, float]
    compared: str
    threshold: float
    p_value: float | None = None
    pattern: Tensor | None = None
    method: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for name, value in self.statistics.items():
            if not -float("inf") < value < float("inf"):
                raise DivergedError(f"the statistic of class {cut(name)!r} is NaN or infinite")
        if self.pattern is not None and not self.pattern.isfinite().all():
            raise DivergedError("the recovered pattern holds NaN or infinite values")
        if self.p_value is not None and not 0 <= self.p_value <= 1:
            raise ModelError(f"a p-value lies between 0 and 1, got {self.p_value}")
        if self.target is not None and not self.backdoored:
            raise ModelError(f"the verdict names target {cut(self.target)!r} of a model without a backdoor")

    @property
    def named(self) -> tuple[str, ...]:
        """All classes that it names."""
        return (*self.statistics, *([] if self.target is None else [self.target]))

    def save(self, folder: Path | str) -> Path:
        """Writes `verdict.json`, and `verdict.safetensors` if there is a pattern, whole or not at all.

        Raises:
            DataError: if the folder holds something else.
        """
        about = {name: getattr(self, name) for name in _About.model_fields}
        files = {VERDICT: to_json(about)}
        if self.pattern is not None:
            files[PATTERN] = save({"pattern": self.pattern.detach().cpu().contiguous()})
        return write_folder(files, folder, (VERDICT, PATTERN))


class _About(Settings):
    """What stands in `verdict.json`, as it is checked."""

    backdoored: StrictBool
    target: StrictStr | None
    statistics: dict[StrictStr, StrictFloat]
    compared: StrictStr
    threshold: StrictFloat
    p_value: StrictFloat | None
    method: StrictStr
    settings: dict[str, Any]
    seconds: Annotated[StrictFloat, Field(ge=0)]


def load_verdict(folder: Path | str) -> Verdict:
    """Reads what `Verdict.save` wrote; the method that it names is not run or imported.

    Raises:
        DataError: if it is missing or damaged.
    """
    folder = Path(folder)
    try:
        about = _About(**read_json(folder / VERDICT))
        tensors = read_weights(folder / PATTERN) if (folder / PATTERN).exists() else {}
        if set(tensors) - {"pattern"}:
            raise ModelError(f"{PATTERN} holds more than a pattern")
        return Verdict(**dict(about), pattern=tensors.get("pattern"))
    except ClosesesameError as error:
        raise DataError(f"{folder / VERDICT} cannot be used: {error}") from None


def _evidence_of(verdict: Verdict, name: str, model: Classifier) -> Evidence:
    """The statistics of all classes, that of the target label apart, and the pattern."""
    ranked = sorted(verdict.statistics.items(), key=lambda pair: pair[1], reverse=True)
    said = ", ".join(f"“{cut(label)}” {value:.3g}" for label, value in ranked[:NAMED])
    own = [value for label, value in ranked if label == verdict.target]
    others = [value for label, value in ranked if label != verdict.target]
    rest = "other classes" if own else "all classes"
    groups = [_group(f"“{verdict.target}”", own, suspicious=True)] if own else []
    ends = "It raises no alarm, which does not prove that there is no backdoor."
    if verdict.backdoored:
        named = "no class" if verdict.target is None else f"“{cut(verdict.target)}”"
        ends = f"It raises an alarm and names {named} as the target label."
    chance = "" if verdict.p_value is None else f" p is {verdict.p_value:.3g}."
    return Evidence(
        title=f"What {name} compares the classes by",
        text=f"{name} gives each class a number; the highest are {said}. It compares: {verdict.compared}. "
        f"The threshold of an alarm is {verdict.threshold:.3g}.{chance} {ends}",
        shapes=(
            Points(
                caption="The number of each class",
                unit="statistic of a class",
                groups=(*groups, _group(rest, others, suspicious=False)),
            ),
            *_maps_of(verdict.pattern, model),
        ),
    )


def _group(name: str, values: list[float], *, suspicious: bool) -> Group:
    return Group(
        name=name,
        values=torch.tensor(values, dtype=torch.float64),
        suspicious=torch.full((len(values),), suspicious),
    )


@torch.no_grad()
def _maps_of(pattern: Tensor | None, model: Classifier) -> list[Map]:
    """A pattern over bands and time; one of a waveform as its features, and to listen to."""
    if pattern is None:
        return []
    card, values, sound = model.card, pattern.detach().float().cpu(), None
    if card.sample_rate and values.shape == card.input_shape:
        sound = (values.clamp(-1, 1), card.sample_rate)
        values = copy.deepcopy(model.front_end).cpu()(values[None])[0]
    if values.ndim != 2:
        return []
    low, high = float(values.min()), float(values.max())
    return [
        Map(
            caption="The pattern that was recovered",
            values=values,
            seconds=card.duration_s if card.sample_rate else float(values.shape[1]),
            rows="band",
            unit="level of the pattern",
            scale=(low, max(high, low + 1e-6)),
            sound=sound,
        )
    ]
