"""The contract of a detection: a model and examples in, a suspicion score for each example out."""

import copy
import hashlib
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from jaxtyping import Float64, Int64
from pydantic import Field, StrictFloat, StrictStr
from torch import Tensor, nn

from closesesame.core.disk import write_folder
from closesesame.core.errors import ClosesesameError, DataError, DivergedError, ModelError, cut
from closesesame.core.evidence import Curve, Distributions, Evidence
from closesesame.core.json_files import read_json, to_json
from closesesame.core.method import Method
from closesesame.core.settings import Settings
from closesesame.core.types import Mask
from closesesame.data import Dataset
from closesesame.models import Classifier
from closesesame.models.matching import as_classifier, data_for, no_examples
from closesesame.models.showing import Shows

SCORES = "suspicion.json"
MOST_BYTES = 2**28
"""Of a file of scores: a million examples with long names."""
HIGHEST, SHOWN, BINS = 0.05, 4, 20
"""The share of scores that evidence calls high, how many classes it shows, and the bins of a distribution."""


class Detection(Method, Shows, ABC):
    """A way to find poisoned examples with the model that was trained on them, or triggered inputs.

    It sees the model, the examples and, if it says so, clean examples: no trigger, no poison mask, no target
    label.
    """

    of: ClassVar[Literal["training clips", "inputs"]]
    """What it screens: a training set, whose labels it may use, or inputs at run time, which have none."""
    needs_clean: ClassVar[bool] = False
    """Whether it needs clean examples beside those that it scores."""
    requires: ClassVar[str] = ""
    """What a model must have, if not every model has it."""
    trains: ClassVar[bool] = False
    """Whether it trains models of its own, which takes minutes."""

    @classmethod
    def claims_in_words(cls) -> dict[str, str]:
        """What it screens, and what it needs."""
        needs = "clean clips" if cls.needs_clean else "no clean clips"
        return {
            "screens": cls.of,
            "needs": needs + (f"; a model with {cls.requires}" if cls.requires else ""),
            "takes": "some trainings of its own" if cls.trains else "no training",
        }

    @final
    def score(self, model: nn.Module, examples: Dataset, clean: Dataset | None, seed: int) -> "Suspicion":
        """Scores every example; higher is more suspicious.

        Args:
            model: trained on the examples, or the one that will classify them; it is not changed. Any module
                from inputs to logits will do.
            examples: what to screen. A detection of inputs is not shown their labels.
            clean: examples known to be clean; may be None if the method does not need any, and is then not
                looked at.
            seed: of everything drawn.

        Raises:
            DataError: if there is nothing to score, or clean examples are missing.
            ModelError: if examples or clean examples do not fit the model, or the model gives no answers or
                lacks what the method needs.
            DivergedError: if a score is NaN or infinite.
        """
        if not len(examples):
            raise DataError(f"{self.name} needs examples to score, got none")
        if self.needs_clean and not clean:
            raise DataError(f"{self.name} needs clean examples beside those that it scores")
        suspect = as_classifier(model, examples)
        shown = data_for(suspect.card, examples)
        if self.of == "inputs":
            shown = shown.with_labels(torch.zeros_like(shown.labels))
        known = data_for(suspect.card, clean) if self.needs_clean and clean else no_examples(suspect.card)
        started = time.perf_counter()
        copied = copy.deepcopy(suspect).requires_grad_(False).eval()
        order, known = hidden_order(shown), known.take(hidden_order(known))
        scores = self.suspicion(copied, shown.take(order), known, seed).detach().double().cpu()
        if scores.shape != (len(examples),):
            raise ModelError(
                f"{self.name} gave scores of shape {list(scores.shape)} for {len(examples)} examples"
            )
        return Suspicion(
            ids=examples.ids,
            scores=torch.empty_like(scores).index_copy_(0, order, scores),
            method=self.full_name(),
            settings=self.settings(),
            seconds=time.perf_counter() - started,
            flagged_above=self.flags_above(),
        )

    def evidence(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Evidence:
        """Where the scores of the classes with the most high scores stand among all scores."""
        return _evidence_of(self.score(model, examples, clean, seed), examples, self.name)

    @abstractmethod
    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        """Hook: the scores (n,), higher for what is more suspicious.

        Args:
            model: a copy of the suspect, in evaluation mode, without gradients of its weights.
            examples: in an order that tells nothing and does not depend on theirs; labels counted as the
                model counts them; all 0 if inputs are scored.
            clean: clean examples, likewise; without rows if the method does not need any.
            seed: of everything drawn.
        """

    def in_place_of(self, model: Classifier, examples: Dataset) -> str | None:
        """Hook: what is looked at in place of the suspect, and how to change that; None by default."""
        del model, examples
        return None

    def flags_above(self) -> float | None:
        """Hook: the score above which an example is flagged; None if the method names none."""
        return None


@dataclass(frozen=True, eq=False, kw_only=True)
class Suspicion:
    """How suspicious each example is.

    Attributes:
        ids: of the examples, in their order.
        scores: (n,) higher is more suspicious; only their order means something.
        method: which gave them.
        settings: of the method.
        seconds: how long it took.
        flagged_above: the score above which the method flags an example; None if it names none.

    Raises:
        DataError: if there is not one score for each id.
        DivergedError: if a score is NaN or infinite.
    """

    ids: tuple[str, ...]
    scores: Float64[Tensor, " n"]
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    flagged_above: float | None = None

    @property
    def flagged(self) -> Mask | None:
        """Which examples (n,) the method flags; None if it names no threshold."""
        return None if self.flagged_above is None else self.scores > self.flagged_above

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.scores):
            raise DataError(f"{len(self.ids)} examples have {len(self.scores)} scores; each needs one")
        broken = ~self.scores.isfinite()
        if broken.any():
            name = cut(self.ids[int(broken.nonzero()[0])])
            raise DivergedError(f"{self.method} gave {name!r} a score that is NaN or infinite")

    def save(self, folder: Path | str) -> Path:
        """Writes `suspicion.json` into a folder of its own, whole or not at all."""
        about = {
            "method": self.method,
            "settings": self.settings,
            "seconds": self.seconds,
            "flagged_above": self.flagged_above,
            "ids": self.ids,
            "scores": self.scores.tolist(),
        }
        return write_folder({SCORES: to_json(about)}, folder, (SCORES,))


class _About(Settings):
    """What stands in `suspicion.json`, as it is checked."""

    method: StrictStr
    settings: dict[str, Any]
    seconds: Annotated[StrictFloat, Field(ge=0)]
    flagged_above: StrictFloat | None = None
    ids: tuple[StrictStr, ...]
    scores: tuple[StrictFloat, ...]


def load_suspicion(folder: Path | str) -> Suspicion:
    """Reads what `Suspicion.save` wrote; the method that it names is not run or imported.

    Raises:
        DataError: if it is missing or damaged.
    """
    path = Path(folder) / SCORES
    try:
        about = _About(**read_json(path, MOST_BYTES))
        return Suspicion(
            ids=about.ids,
            scores=torch.tensor(about.scores, dtype=torch.float64),
            method=about.method,
            settings=about.settings,
            seconds=about.seconds,
            flagged_above=about.flagged_above,
        )
    except ClosesesameError as error:
        raise DataError(f"{path} cannot be used: {error}") from None


def hidden_order(data: Dataset) -> Int64[Tensor, " n"]:
    """The rows in the order of the hashes of their ids.

    Ids are often `class/file`, and the class is the true one. In their order, ties would go to clips of one
    true class.
    """
    hashes = [hashlib.sha256(name.encode()).digest() for name in data.ids]
    return torch.tensor(sorted(range(len(data)), key=hashes.__getitem__), dtype=torch.long)


def _evidence_of(suspicion: Suspicion, examples: Dataset, name: str) -> Evidence:
    """The ranks of a class beside those of all others, for the classes with the most high scores."""
    ranks = ranks_of(suspicion.scores)
    high = ranks > min(1 - HIGHEST, float(ranks.max()) - 1e-9)  # where many share the highest score
    counts = torch.bincount(examples.labels[high], minlength=len(examples.classes))
    shapes = []
    for label in counts.argsort(descending=True, stable=True)[:SHOWN].tolist():
        own = examples.labels == label
        if not counts[label]:
            break
        shapes.append(
            Distributions(
                caption=f"“{examples.classes[label]}”: {counts[label]} of its {int(own.sum())} clips are "
                f"among the {int(high.sum())} with the highest scores",
                unit="clips with a lower score, %",
                curves=(
                    *([] if own.all() else [_curve("all other classes", ranks[~own])]),
                    replace(_curve(f"“{examples.classes[label]}”", ranks[own]), suspicious=True),
                ),
            )
        )
    return Evidence(
        title=f"Which classes have the highest scores of {name}",
        text=f"{name} gives each of {len(examples)} clips of the training part a suspicion score. Only the "
        "order of scores means something, so each figure shows how many clips have a lower score. Poisoned "
        "clips that the method finds are at the right end of the curve of their class. A class that is easy "
        "or hard to learn differs from the others, too, without any poison.",
        shapes=tuple(shapes),
    )


def ranks_of(scores: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """The share of scores that are lower than each, where half of the equal ones count as lower."""
    ordered = scores.sort().values
    below, up_to = (torch.searchsorted(ordered, scores, right=right) for right in (False, True))
    return (below + up_to).double() / (2 * len(scores))


def _curve(name: str, ranks: Float64[Tensor, " n"]) -> Curve:
    """How many of these ranks lie in each of `BINS` equal parts of 0 to 100 %."""
    middles = 100 * (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS
    return Curve(name=name, at=middles, density=torch.histc(ranks, BINS, 0, 1) / len(ranks))
