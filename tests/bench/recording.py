"""Tiny methods that write down what they are given, and an attack whose clips can be told apart by ear."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from closesesame.attacks import Attack
from closesesame.attacks.base import Signal
from closesesame.core.seeding import generator
from closesesame.core.types import Inputs
from closesesame.data import Dataset
from closesesame.detection import Detection
from closesesame.inspection import Inspection, Verdict
from closesesame.models import Architecture, Classifier
from closesesame.purification import Purification
from closesesame.removal import Removal
from closesesame.robust_training import RobustTraining, Watch
from closesesame.training import choose_precision

SEEN: list[dict[str, Any]] = []
"""What every method was given, in the order they ran."""


def note(method: str, seed: int, **given: Any) -> None:
    SEEN.append({"method": method, "seed": seed, **given})


class Shift(Attack):
    """Poisoned clips are moved up, cover clips down, by a level that the seed decides."""

    name: ClassVar[str] = "shift"
    cite: ClassVar[str] = "ours"
    audible: ClassVar[str] = "nothing"
    has_cover_clips: ClassVar[bool] = True

    def prepare(self, train: Dataset, seed: int) -> dict[str, Tensor]:
        del train
        return {"level": 0.2 + 0.2 * torch.rand(1, generator=generator(seed, "level"))}

    def apply(self, inputs: Inputs, state: Mapping[str, Tensor], signal: Signal) -> Inputs:
        del signal
        return inputs + state["level"]

    def cover_clips(
        self, inputs: Inputs, others: Inputs, state: Mapping[str, Tensor], signal: Signal, rng: Generator
    ) -> Inputs:
        del others, signal, rng
        return inputs - state["level"]


class Remove(Removal):
    """Changes nothing."""

    name: ClassVar[str] = "remove"
    cite: ClassVar[str] = "ours"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        precision = choose_precision("auto", model)
        note(self.name, seed, model=weight(model), clean={*tune.ids, *held_out.ids}, precision=precision)
        return {}


class RemoveUntrusted(Remove):
    """Changes nothing."""

    name: ClassVar[str] = "remove_untrusted"
    untrusted: ClassVar[bool] = True


class TrainNothing(RobustTraining):
    """Builds fresh weights."""

    name: ClassVar[str] = "train"
    cite: ClassVar[str] = "ours"
    needs_clean: ClassVar[bool] = True

    def learn(
        self, architecture: Architecture, untrusted: Dataset, clean: Dataset | None, seed: int, watch: Watch
    ) -> tuple[Classifier, dict[str, Any]]:
        note(self.name, seed, untrusted=untrusted, clean=set(clean.ids) if clean else None, how=self.training)
        shape, rate = untrusted.input_shape, untrusted.sample_rate
        model = architecture.build(untrusted.classes, shape, rate, seed=seed)
        return model, {}


class Level(Detection):
    """The higher the mean of a clip, the more suspicious."""

    name: ClassVar[str] = "level"
    cite: ClassVar[str] = "ours"
    of: ClassVar[Literal["training clips", "inputs"]] = "training clips"
    needs_clean: ClassVar[bool] = True

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        note(self.name, seed, model=weight(model), untrusted=examples, clean=set(clean.ids))
        return examples.inputs[:].mean(1)


class Accuse(Inspection):
    """Says of every model that class 1 is the target."""

    name: ClassVar[str] = "accuse"
    cite: ClassVar[str] = "ours"

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        note(self.name, seed, model=weight(model), clean=set(clean.ids))
        return Verdict(
            backdoored=True, target=model.card.classes[1], statistics={}, compared="nothing", threshold=0.0
        )


class Acquit(Accuse):
    """Says of every model that it has no backdoor."""

    name: ClassVar[str] = "acquit"

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        del model, clean, seed
        return Verdict(backdoored=False, target=None, statistics={}, compared="nothing", threshold=0.0)


class Pass(Purification):
    """Lets everything pass."""

    name: ClassVar[str] = "pass"
    cite: ClassVar[str] = "ours"

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        del sample_rate, input_shape
        return nn.Identity()

    def learn(self, network: nn.Module, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        del network
        note(self.name, seed, clean={*tune.ids, *held_out.ids})
        return {}


def weight(model: nn.Module) -> float:
    """A number that tells models apart."""
    return float(sum(value.double().sum() for value in model.state_dict().values()))
