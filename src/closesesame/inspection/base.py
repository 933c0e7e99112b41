"""The contract of an inspection: a model in, a verdict out."""

import copy
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, final

from pydantic import Field, StrictBool, StrictFloat, StrictStr
from safetensors.torch import save
from torch import Tensor, nn

from closesesame.core.disk import write_folder
from closesesame.core.errors import ClosesesameError, DataError, DivergedError, ModelError, cut
from closesesame.core.json_files import read_json, to_json
from closesesame.core.method import Method
from closesesame.core.settings import Settings
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.files import read_weights
from closesesame.models.matching import as_classifier, data_for, few, no_examples

VERDICT, PATTERN = "verdict.json", "verdict.safetensors"


class Inspection(Method, ABC):
    """A way to tell whether a trained model has a backdoor.

    It sees the model and, unless it is `data_free`, clean examples: nothing of the training set, no
    trigger, no target label, no test set.
    """

    data_free: ClassVar[bool] = False
    """Whether it works without clean examples."""
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
            clean: examples known to be clean, of classes that the model knows, in any order; may be None for
                a method that is `data_free` if the model is one of ours.
            seed: of everything drawn.

        Raises:
            DataError: if clean examples are missing.
            ModelError: if the clean examples do not fit the model, or it has too few classes.
            DivergedError: if a statistic is NaN or infinite.
        """
        suspect = as_classifier(model, clean)
        classes = suspect.card.classes
        known = no_examples(suspect.card) if clean is None else data_for(suspect.card, clean)
        if not self.data_free and not len(known):
            raise DataError(f"{self.name} needs clean examples, got none")
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

    @abstractmethod
    def judge(self, model: Classifier, clean: Dataset, seed: int) -> "Verdict":
        """Hook: the verdict; method, settings and seconds are filled in afterwards.

        Args:
            model: a copy of the suspect, in evaluation mode, without gradients of its weights.
            clean: clean examples; without rows if there are none and the method is `data_free`.
            seed: of everything drawn.
        """


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
        """All classes that it speaks of."""
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
