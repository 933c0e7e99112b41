"""Every rule of every contract is broken once, and the sentence names it."""

import copy
import importlib
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from pydantic import Field, field_validator
from torch import Generator, Tensor, nn

import closesesame.testing
from closesesame.attacks import Attack, Signal, Trigger
from closesesame.attacks.base import State
from closesesame.core.errors import DataError, ModelError, SettingError
from closesesame.core.method import Method
from closesesame.core.types import Inputs
from closesesame.data import Dataset, Splits
from closesesame.data.rows import Rows
from closesesame.detection import TrainingLoss
from closesesame.inspection import Inspection, Verdict
from closesesame.models import Architecture, Classifier, SmallCNN, SpectralArchitecture
from closesesame.models.front_ends import Identity
from closesesame.models.statistics import renew_statistics
from closesesame.purification import Purification
from closesesame.removal import FT, Repair
from closesesame.robust_training import Plain, Watch
from closesesame.robust_training.base import unwatched
from closesesame.testing import ContractError, checks_for, examples
from closesesame.testing.attack import _another_process
from closesesame.testing.contract import quick
from closesesame.testing.guarded import Repairing, assert_never_trained_on_held_out
from closesesame.training import Training, accuracy, fit


def unseeded() -> Generator:
    """A generator that no seed repeats."""
    rng = Generator()
    rng.seed()
    return rng


# --- methods


class Click(Attack):
    """Add a click to the start of every clip, as the paper has it."""

    name: ClassVar[str] = "click"
    cite: ClassVar[str] = "a test"
    audible: ClassVar[str] = "a click"

    level: float = Field(0.1, gt=0, le=1, description="height of the click")

    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        out = inputs.clone()
        out[:, :8] += self.level
        return out


class Patch(Attack):
    """Set a corner of every picture to white, as the paper has it."""

    name: ClassVar[str] = "patch"
    cite: ClassVar[str] = "a test"
    audible: ClassVar[str] = "nothing"
    domains: ClassVar[tuple[str, ...]] = ("pictures",)

    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        out = inputs.clone()
        out[..., :2, :2] = signal.domain.high
        return out


class NobodyKnowsHowItSounds(Attack):
    """Add something to every clip, of which no more is said."""

    name: ClassVar[str] = "unheard"
    cite: ClassVar[str] = "a test"

    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        return inputs


class SaysNothing(Click):
    """Click."""


class NamesNoPaper(Click):
    """Add a click to the start of every clip, as some paper has it."""

    cite: ClassVar[str] = ""


class ChangesInJson(Click):
    """Halve the level whenever it is read, also from a file."""

    height: float = Field(0.1, description="of the click", validate_default=True)

    @field_validator("height")
    @classmethod
    def _half(cls, value: float) -> float:
        return value / 2


class Undescribed(Click):
    """Have a field of which nobody knows what it is for."""

    x: float = 0.1


class TakesEverySetting(Click):
    """Take whatever setting there is, and ignore it."""

    @classmethod
    def parse(cls: Any, settings: Any) -> Any:
        return cls()


class TakesEveryValue(Click):
    """Have a field that may be anything at all."""

    anything: Any = Field(0, description="whatever")


# --- attacks


class ChangesClips(Click):
    """Add the click to the clips themselves instead of a copy."""

    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        inputs[:, :8] += self.level
        return inputs


class ChangesTrainingSet(Click):
    """Make the first training clip silent while a trigger is prepared."""

    def prepare(self, train: Dataset, seed: int) -> State:
        source = train.inputs.sources[0]
        assert isinstance(source, Tensor)
        source[0] = 0
        return {}


class DrawsGlobally(Click):
    """Draw the trigger from the global generator of torch."""

    def prepare(self, train: Dataset, seed: int) -> State:
        return {"sound": torch.rand(8)}


class DependsOnBatch(Click):
    """Make the click the higher the more clips are in the batch."""

    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        out = inputs.clone()
        out[:, :8] += self.level * len(inputs) / 64
        return out


class Inaudible(Click):
    """Add a click that is too faint to be anything."""

    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        return inputs + 0.0005


class NeedsASecond(Click):
    """Add a click at the end of the first quarter of a second."""

    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        out = inputs.clone()
        out[:, 2000] += self.level
        return out


class DividesByLoudness(Click):
    """Scale every clip to one loudness, also what is silent."""

    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        return 0.1 * inputs / inputs.square().mean(1, keepdim=True).sqrt()


class PoisonsTooFew(Click):
    """Leave out one of the clips that are to be poisoned."""

    def choose(self, train: Dataset, eligible: Tensor, count: int, trigger: Trigger, seed: int) -> Tensor:
        return super().choose(train, eligible, max(0, count - 1), trigger, seed)


class PoisonsTheTarget(Click):
    """Poison clips of the target class too, which have their label already."""

    def choose(self, train: Dataset, eligible: Tensor, count: int, trigger: Trigger, seed: int) -> Tensor:
        return super().choose(train, torch.arange(len(train)), count, trigger, seed)


class PlantsNothing(Click):
    """Give poisoned clips the target label and no trigger."""

    def plant(self, train: Dataset, chosen: Tensor, trigger: Trigger, seed: int) -> Inputs:
        return train.inputs[chosen]


class TakesTheFirst(Click):
    """Poison the first clips, whatever the seed is."""

    def choose(self, train: Dataset, eligible: Tensor, count: int, trigger: Trigger, seed: int) -> Tensor:
        return eligible[:count]


class DrawsUnseeded(Click):
    """Draw the clips to poison from a generator without a seed."""

    def choose(self, train: Dataset, eligible: Tensor, count: int, trigger: Trigger, seed: int) -> Tensor:
        return eligible[torch.randperm(len(eligible), generator=unseeded())[:count]]


class DependsOnRate(Click):
    """Keep the poisoning rate in the trigger."""

    def prepare(self, train: Dataset, seed: int) -> State:
        return {"height": torch.tensor(self.rate)}


class DependsOnProcess(Click):
    """Make the click as high as the number of the process is."""

    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        out = inputs.clone()
        out[:, :8] += self.level + 1e-7 * os.getpid()
        return out


class WorksHereOnly(Click):
    """End any other process that stamps."""

    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        if hasattr(sys.modules["__main__"], "load_trigger"):
            sys.exit("this is another process")
        return super().apply(inputs, state, signal)


class Talks(Click):
    """Add a click, and say so."""

    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        print("click")
        return super().apply(inputs, state, signal)


# --- removals


class ChangesSuspect(FT):
    """Set the weights of the suspect to zero, then fine-tune a copy."""

    def remove(  # type: ignore[misc]
        self, model: nn.Module, clean: Dataset | None, seed: int, *, audio: Dataset | None = None
    ) -> Repair:
        with torch.no_grad():
            next(model.parameters()).zero_()
        return super().remove(model, clean, seed)


class ChangesCleanSet(FT):
    """Fine-tune on clips that are made silent first."""

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        source = tune.inputs.sources[0]
        assert isinstance(source, Tensor)
        source.zero_()
        return {}


class ShakesGlobally(FT):
    """Add noise from the global generator to the weights."""

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        return shaken(model, torch.randn(()))


class ShakesUnseeded(FT):
    """Add noise to the weights that no seed repeats."""

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        return shaken(model, torch.randn((), generator=unseeded()))


def shaken(model: Classifier, noise: Tensor) -> dict[str, Any]:
    with torch.no_grad():
        next(model.body.parameters()).add_(0.01 * noise)
    return {}


class StaysInTraining(FT):
    """Leave dropout and batch norms as they are in training."""

    def remove(  # type: ignore[misc]
        self, model: nn.Module, clean: Dataset | None, seed: int, *, audio: Dataset | None = None
    ) -> Repair:
        repair = super().remove(model, clean, seed)
        repair.model.train()
        return repair


class Boasts(FT):
    """Say of the repaired model that it makes no error."""

    def remove(  # type: ignore[misc]
        self, model: nn.Module, clean: Dataset | None, seed: int, *, audio: Dataset | None = None
    ) -> Repair:
        return replace(super().remove(model, clean, seed), acc_after=1.01)


class Peeks(FT):
    """Fine-tune on the held-out examples."""

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        return super().repair(model, held_out, tune, seed)


class RefusesAll(FT):
    """Refuse every model without a reason that a user could see beforehand."""

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        raise ModelError("this model is not to my taste")


class ClaimsToNeedNorms(FT):
    """Refuse every model because it had no batch norm."""

    requires: ClassVar[str] = "batch norm"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        raise ModelError("this model has no batch norm")


class NeedsMagic(FT):
    """Refuse every model because it has no magic."""

    requires: ClassVar[str] = "magic"

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        raise ModelError("this model has no magic")


class WrapsTheBody(FT):
    """Give back another network than the user's."""

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        model.body = nn.Sequential(model.body)
        return {}


class DoesNothing(FT):
    """Give back the model as it was."""

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        return {}


class PrunesTheFirst(FT):
    """Prune the first channel of a model, which is as good as any."""

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        with torch.no_grad():
            for module in model.body.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.weight[0] = 0
        return {"pruned_channels": 1}


class ClaimsToBeDataFree(FT):
    """Say that it needs no clean examples, and train on them."""

    data_free: ClassVar[bool] = True

    def repair(self, model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        if not len(tune):
            raise DataError("there is nothing to train on")
        return {}


class TakesTooFew(FT):
    """Give back what it got where there are too few clean examples."""

    def remove(  # type: ignore[misc]
        self, model: nn.Module, clean: Dataset | None, seed: int, *, audio: Dataset | None = None
    ) -> Repair:
        assert isinstance(model, Classifier)
        return Repair(model, 0, 0, None, None, 0.0)


# --- architectures


class Mean(SpectralArchitecture):
    """Weigh the mean of each band; the smallest network there is."""

    name: ClassVar[str] = "mean"
    cite: ClassVar[str] = "a test"

    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        return MeanBody(classes, bands)


class MeanBody(nn.Module):
    def __init__(self, classes: int, bands: int) -> None:
        super().__init__()
        self.head = nn.Linear(bands, classes)

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.head(maps.mean(2))
        return logits


class MeanOfPictures(Architecture):
    """Weigh the mean of each colour; the smallest network for pictures."""

    name: ClassVar[str] = "mean_of_pictures"
    cite: ClassVar[str] = "a test"
    domains: ClassVar[tuple[str, ...]] = ("pictures",)

    size: int = Field(1, ge=1, le=9, description="pixels, on a side, that are kept")

    def build(
        self,
        classes: tuple[str, ...],
        input_shape: tuple[int, ...],
        sample_rate: int | None,
        *,
        seed: int,
    ) -> Classifier:
        def body() -> nn.Module:
            features = input_shape[0] * self.size**2
            layers = nn.AdaptiveAvgPool2d(self.size), nn.Flatten(), nn.Linear(features, len(classes))
            return nn.Sequential(*layers)

        return self.assemble(Identity(), body, classes, input_shape, sample_rate, seed=seed)


class FourClasses(Mean):
    """Know four classes, whatever is asked for."""

    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        return MeanBody(4, bands)


class FreshUnseeded(Mean):
    """Draw the weights from a generator without a seed."""

    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        body = MeanBody(classes, bands)
        nn.init.normal_(body.head.weight, generator=unseeded())
        return body


class FreshZeros(Mean):
    """Begin with weights of zero, whatever the seed is."""

    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        body = MeanBody(classes, bands)
        for weight in body.parameters():
            nn.init.zeros_(weight)
        return body


class DrawsInNumpy(Mean):
    """Draw a number that is not used from numpy's global generator."""

    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        np.random.rand()  # noqa: NPY002
        return MeanBody(classes, bands)


class Compares(Mean):
    """Compare each clip with the mean of its batch."""

    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        return ComparingBody(classes, bands)


class ComparingBody(MeanBody):
    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps - maps.mean(0))


class Idle(Mean):
    """Have a layer that nothing goes through."""

    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        body = MeanBody(classes, bands)
        body.spare = nn.Linear(2, 2)
        return body


class Forgets(Mean):
    """Shift the logits by a number that is not saved."""

    def body(self, classes: int, bands: int, frames: int) -> nn.Module:
        return ShiftingBody(classes, bands)


class ShiftingBody(MeanBody):
    def __init__(self, classes: int, bands: int) -> None:
        super().__init__(classes, bands)
        self.shift = float(torch.rand((), generator=unseeded(), device="cpu"))

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps) + self.shift


# --- detections


class AllAlike(TrainingLoss):
    """Find every example as suspicious as any other."""

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        return torch.zeros(len(examples))


class Guesses(TrainingLoss):
    """Draw the scores from a generator without a seed."""

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        return torch.rand(len(examples), generator=unseeded())


class SilencesExamples(TrainingLoss):
    """Make the examples silent after they have been scored."""

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        source = examples.inputs.sources[0]
        assert isinstance(source, Tensor)
        source.zero_()
        return torch.arange(len(examples))


class MissesCleanExamples(TrainingLoss):
    """Ask for clean examples without saying so beforehand."""

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        if not len(clean):
            raise DataError("there is nothing to compare with")
        return torch.arange(len(examples))


class LikesOursOnly(TrainingLoss):
    """Refuse models that are not of this package."""

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        if model.card.architecture == "external":
            raise ModelError("this is not one of ours")
        return torch.arange(len(examples))


class ComparesWithTheBatch(TrainingLoss):
    """Compare each example with the loudest of its batch."""

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        loud = [inputs.square().mean(1) for inputs, _ in examples.batches(256)]
        return torch.cat([of_batch / of_batch.max() for of_batch in loud])


class ComparesInputs(TrainingLoss):
    """Compare each input with the loudest of all."""

    of: ClassVar[Literal["training clips", "inputs"]] = "inputs"

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        loud = examples.inputs[:].square().mean(1)
        return loud / loud.max()


class ClaimsToNeedBatchNorm(TrainingLoss):
    """Refuse every model because it had no batch norm."""

    requires: ClassVar[str] = "batch norm"

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        raise ModelError("this model has no batch norm")


class WantsMagic(TrainingLoss):
    """Refuse every model because it has no magic."""

    requires: ClassVar[str] = "magic"

    def suspicion(self, model: Classifier, examples: Dataset, clean: Dataset, seed: int) -> Tensor:
        raise ModelError("this model has no magic")


# --- inspections


class NoAlarm(Inspection):
    """Find the same small number for every class, and raise no alarm."""

    name: ClassVar[str] = "no_alarm"
    cite: ClassVar[str] = "a test"
    data_free: ClassVar[bool] = True

    level: float = Field(1.0, gt=0, le=9, description="above which an alarm is raised")

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        numbers = dict.fromkeys(model.card.classes, 0.0)
        return Verdict(
            backdoored=False, target=None, statistics=numbers, compared="nothing", threshold=self.level
        )


class JudgesUnseeded(NoAlarm):
    """Draw the number of a class from a generator without a seed."""

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        drawn = float(torch.rand((), generator=unseeded()))
        return replace(super().judge(model, clean, seed), statistics={model.card.classes[0]: drawn})


class NeedsClips(NoAlarm):
    """Say that it is free of data, and ask for clean examples."""

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        if not len(clean):
            raise DataError("there is nothing to compare with")
        return super().judge(model, clean, seed)


class JudgesOursOnly(NoAlarm):
    """Refuse models that are not of this package."""

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        if model.card.architecture == "external":
            raise ModelError("this is not one of ours")
        return super().judge(model, clean, seed)


class JudgesByPlace(NoAlarm):
    """Find a class the more suspicious the later it stands."""

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        numbers = {name: float(place) for place, name in enumerate(model.card.classes)}
        return replace(super().judge(model, clean, seed), statistics=numbers)


class GivesNoReason(NoAlarm):
    """Judge without saying by what."""

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        return replace(super().judge(model, clean, seed), compared="")


class HasNoNumbers(NoAlarm):
    """Judge without a statistic of any class."""

    def judge(self, model: Classifier, clean: Dataset, seed: int) -> Verdict:
        return replace(super().judge(model, clean, seed), statistics={})


# --- purifications


class Louder(Purification):
    """Make every clip a little louder by a number that is learnt."""

    name: ClassVar[str] = "louder"
    cite: ClassVar[str] = "a test"
    data_free: ClassVar[bool] = True

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        return Gain()


class Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.1))

    def forward(self, wav: Tensor) -> Tensor:
        return wav * self.gain


class GainUnseeded(Louder):
    """Draw the gain from a generator without a seed."""

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        network = Gain()
        nn.init.uniform_(network.gain, 1, 2, generator=unseeded())
        return network


class GainOfTheBatch(Louder):
    """Make clips the louder the more of them there are."""

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        return BatchGain()


class BatchGain(Gain):
    def forward(self, wav: Tensor) -> Tensor:
        return super().forward(wav) * len(wav)


class Divides(Louder):
    """Scale every clip to one loudness, also what is silent."""

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        return Scale()


class Scale(Gain):
    def forward(self, wav: Tensor) -> Tensor:
        return 0.1 * wav / wav.square().mean(1, keepdim=True).sqrt()


class GainOfHeldOut(Louder):
    """Learn the gain on the held-out examples."""

    def learn(self, network: nn.Module, tune: Dataset, held_out: Dataset, seed: int) -> dict[str, Any]:
        network(held_out.inputs[:]).square().mean().backward()
        return {}


class MissesClips(Louder):
    """Say that it is free of data, and ask for clean examples."""

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        raise DataError("there is nothing to learn from")


class GainIsLost(Louder):
    """Have a gain that is not saved."""

    def network(self, sample_rate: int | None, input_shape: tuple[int, ...]) -> nn.Module:
        return LostGain()


class LostGain(Gain):
    def __init__(self) -> None:
        super().__init__()
        self.more = 1 + random.Random().random()

    def forward(self, wav: Tensor) -> Tensor:
        return super().forward(wav) * self.more


# --- robust trainings


class TrainsWithOneSeed(Plain):
    """Train the same model whatever the seed is."""

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        return super().learn(architecture, untrusted, clean, 0, watch)


class TrainsUnseeded(Plain):
    """Train another model each time."""

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        return super().learn(architecture, untrusted, clean, unseeded().initial_seed() % 1000, watch)


class RelabelsUntrusted(Plain):
    """Change labels of the untrusted set in place."""

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        untrusted.labels[0] = 3
        return super().learn(architecture, untrusted, clean, seed, watch)


class CountsFromZero(Plain):
    """Count epochs from 0."""

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        model, chosen = super().learn(architecture, untrusted, clean, seed, unwatched)
        watch("training", 0, model)
        return model, chosen


class Unwatched(Plain):
    """Tell nobody of the epochs."""

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        return super().learn(architecture, untrusted, clean, seed, unwatched)


class ChangedByWatching(Plain):
    """Train on where somebody watches."""

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        return super().learn(architecture, untrusted, clean, seed + (watch is not unwatched), watch)


class TrainsAnother(Plain):
    """Train the architecture that it likes best."""

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        return super().learn(SmallCNN(), untrusted, clean, seed, watch)


class MissesTrusted(Plain):
    """Ask for clean examples without saying so beforehand."""

    def learn(
        self,
        architecture: Architecture,
        untrusted: Dataset,
        clean: Dataset | None,
        seed: int,
        watch: Watch,
    ) -> tuple[Classifier, dict[str, Any]]:
        raise DataError("there is nothing to compare with")


ALONE = "what_is_passed_in_is_left_alone"
REPEATS = f"{ALONE}_and_the_seed_repeats"
WATCHED = "it_is_watched_epoch_by_epoch"
SUSPECT = "the_suspect_is_left_alone_and_the_seed_repeats"
LENGTHS = "clips_of_any_length_silence_and_full_scale_are_stamped"
COUNTS = "the_poisoning_rate_counts_all_training_clips"
PROCESS = "a_saved_trigger_stamps_the_same_samples_in_a_new_process"
HELD_OUT = "held_out_examples_are_never_trained_on"
ASKED = "clean_examples_are_asked_for_if_they_are_needed"
BATCHES = "the_size_of_batches_does_not_matter"
GLOBAL = "a global random generator was used"
BROKEN: list[tuple[type[Method], str, str]] = [
    (NobodyKnowsHowItSounds, "every_class_variable_has_a_value", "the class variable 'audible' is missing"),
    (SaysNothing, "it_says_what_it_does_in_one_sentence", "must begin with one sentence .* got 'Click.'"),
    (NamesNoPaper, "it_says_what_it_does_in_one_sentence", "the class variable 'cite' is empty"),
    (ChangesInJson, "it_survives_json", "the settings are others after JSON"),
    (Undescribed, "every_field_is_described", "field 'x' has no description"),
    (
        TakesEverySetting,
        "an_unknown_setting_is_refused_with_the_nearest",
        "an unknown setting must be refused",
    ),
    (
        TakesEveryValue,
        "a_bad_value_is_refused_by_class_and_field",
        "a bad value of 'anything' must be refused",
    ),
    (ChangesClips, ALONE, "the tensor of clips passed in was changed"),
    (ChangesTrainingSet, ALONE, "the training set passed in was changed"),
    (DrawsGlobally, ALONE, GLOBAL),
    (DependsOnBatch, "each_clip_is_stamped_by_itself", "depends on the others in its batch"),
    (Inaudible, "each_clip_is_stamped_by_itself", "hardly changes"),
    (NeedsASecond, LENGTHS, "silent clips of 64 samples cannot be stamped"),
    (DividesByLoudness, LENGTHS, "silent clips of 64 samples cannot be stamped"),
    (PoisonsTooFew, COUNTS, "at rate 0.01 3 of 320 clips are to be poisoned, and 2 are"),
    (PoisonsTheTarget, COUNTS, "poisoned clips were partly of the target class before"),
    (PlantsNothing, COUNTS, "a poisoned clip or a cover clip is the clean one still"),
    (TakesTheFirst, "the_seed_repeats", "seeds 0 and 1 poison the same clips"),
    (DrawsUnseeded, "the_seed_repeats", "the same seed gave two different poisoned sets"),
    (
        DependsOnRate,
        "a_trigger_does_not_depend_on_the_poisoning_rate",
        "another one at another poisoning rate",
    ),
    (WorksHereOnly, PROCESS, "another process cannot stamp with the trigger"),
    (DependsOnProcess, PROCESS, "the trigger read from disk stamps other samples"),
    (ChangesSuspect, SUSPECT, "the model passed in was changed"),
    (ChangesCleanSet, SUSPECT, "the clean set passed in was changed"),
    (ShakesGlobally, SUSPECT, GLOBAL),
    (ShakesUnseeded, SUSPECT, "the same seed gave two different models"),
    (StaysInTraining, SUSPECT, "the repaired model is left in training mode"),
    (Boasts, SUSPECT, "what the repair says of itself is not so"),
    (Peeks, HELD_OUT, "held-out examples are read while gradients are enabled"),
    (
        RefusesAll,
        "every_architecture_is_repaired",
        "'resnet' is refused; the class variable 'requires' must name",
    ),
    (ClaimsToNeedNorms, "every_architecture_is_repaired", "'resnet' is refused, and it has batch norm"),
    (NeedsMagic, "every_architecture_is_repaired", "no architecture can be repaired"),
    (WrapsTheBody, "any_module_is_repaired", "the body of the repaired model is of another class"),
    (ChangesSuspect, "any_module_is_repaired", "the module passed in was changed"),
    (DoesNothing, "an_outlier_is_acted_on", "nothing was changed"),
    (PrunesTheFirst, "an_outlier_is_acted_on", "the outlier alone should be pruned; it was not, among 1"),
    (
        ClaimsToBeDataFree,
        "what_does_not_fit_is_refused",
        "data_free is True, and without clean clips it says",
    ),
    (TakesTooFew, "what_does_not_fit_is_refused", "one clean clip or none must be refused by DataError"),
    (FourClasses, "clips_become_logits", r"3 inputs of shape \[16000\], 2 classes: logits of shape \[3, 4\]"),
    (FreshUnseeded, "the_seed_repeats", "the same seed gave two different sets of weights"),
    (FreshZeros, "the_seed_repeats", "seeds 0 and 1 give the same weights"),
    (DrawsInNumpy, "the_seed_repeats", GLOBAL),
    (Compares, "each_clip_is_classified_by_itself", "the logits of a clip depend on the others in its batch"),
    (Idle, "every_weight_is_trained", "the loss has no gradient in body.spare.weight, body.spare.bias"),
    (Forgets, "a_saved_model_gives_the_same_numbers", "the model read from disk gives other numbers"),
    (AllAlike, REPEATS, "all examples have the same score"),
    (Guesses, REPEATS, "the same seed gave other scores"),
    (SilencesExamples, REPEATS, "the set of examples passed in was changed"),
    (MissesCleanExamples, ASKED, "needs_clean is False, and .* nothing to compare with"),
    (LikesOursOnly, "every_model_is_looked_at", "'network of somebody else' is refused"),
    (ClaimsToNeedBatchNorm, "every_model_is_looked_at", "'resnet' is refused, and it has batch norm"),
    (WantsMagic, "every_model_is_looked_at", "no model is looked at"),
    (ComparesWithTheBatch, BATCHES, "the same examples in smaller batches have other scores"),
    (ComparesInputs, "an_input_is_scored_by_itself", "depends on the others that are scored with it"),
    (JudgesUnseeded, REPEATS, "the same seed gave another verdict"),
    (NeedsClips, ASKED, "data_free is True, and .* nothing to compare with"),
    (JudgesOursOnly, "every_model_is_judged", "'network of somebody else' is refused"),
    (JudgesByPlace, "the_order_of_classes_does_not_matter", "the classes stand in another order"),
    (GivesNoReason, "a_verdict_says_what_was_compared", "the verdict does not say what was compared"),
    (HasNoNumbers, "a_verdict_says_what_was_compared", "the verdict has no statistic"),
    (GainUnseeded, REPEATS, "the same seed gave two different purifiers"),
    (GainOfTheBatch, "each_clip_is_purified_by_itself", "depends on the others in its batch"),
    (Divides, "each_clip_is_purified_by_itself", "pass full scale or are no numbers"),
    (GainOfHeldOut, HELD_OUT, "held-out examples are read while gradients are enabled"),
    (MissesClips, ASKED, "data_free is True, and .* nothing to learn from"),
    (GainIsLost, "it_stands_in_front_of_a_model", "the purifier read from disk gives other numbers"),
    (TrainsWithOneSeed, REPEATS, "seeds 5 and 6 give the same model"),
    (TrainsUnseeded, REPEATS, "the same seed gave two different models"),
    (CountsFromZero, WATCHED, r"epochs of stages are told in the order \[\('training', 0\)\]"),
    (Unwatched, WATCHED, "nothing can be watched; call `watch`"),
    (ChangedByWatching, WATCHED, "who watches the training changes the model"),
    (RelabelsUntrusted, REPEATS, "the untrusted set passed in was changed"),
    (TrainsAnother, "every_architecture_is_trained", "asked for a 'resnet' .* got 'small_cnn'"),
    (MissesTrusted, ASKED, "needs_clean is False, and .* nothing to compare with"),
]


@pytest.mark.parametrize(
    ("method", "rule", "sentence"), BROKEN, ids=[f"{method.__name__}-{rule}" for method, rule, _ in BROKEN]
)
def test_a_broken_rule_is_named(method: type[Method], rule: str, sentence: str) -> None:
    with pytest.raises(ContractError, match=sentence):
        dict(checks_for(method()))[rule]()


def test_every_rule_of_every_family_is_broken_once() -> None:
    families = closesesame.testing.CHECKS
    broken = {(family, rule) for family in families for kind, rule, _ in BROKEN if issubclass(kind, family)}
    of_all = {check.__name__ for check in closesesame.testing.method.CHECKS}
    assert of_all <= {rule for _, rule, _ in BROKEN}
    for family, checks in families.items():
        for check in checks:
            assert check.__name__ in of_all or (family, check.__name__) in broken


def test_a_method_of_your_own_is_checked_in_one_line() -> None:
    closesesame.testing.check_attack(Click())
    closesesame.testing.check_attack(Patch())
    closesesame.testing.check_removal(FT())
    closesesame.testing.check_architecture(Mean())
    closesesame.testing.check_architecture(MeanOfPictures())
    closesesame.testing.check_detection(TrainingLoss())
    closesesame.testing.check_inspection(NoAlarm())
    closesesame.testing.check_purification(Louder())
    closesesame.testing.check_robust_training(Plain())
    with pytest.raises(ContractError, match="class variable 'audible' is missing"):
        closesesame.testing.check_attack(NobodyKnowsHowItSounds())
    with pytest.raises(SettingError, match="Training is of no family: Attack, Removal"):
        list(checks_for(Training()))


def read_again(attack: Attack) -> None:
    """Asks the other process to stamp with a trigger that was saved."""
    dict(checks_for(attack))[PROCESS]()


def test_what_an_attack_prints_is_not_the_answer_of_the_other_process() -> None:
    read_again(Talks())


def test_the_other_process_is_started_again_if_it_was_killed() -> None:
    read_again(Click())
    process = _another_process()
    process.kill()
    process.wait()
    read_again(Click())
    assert _another_process() is not process


EDITED = """
from tests.test_testing import Click

class Edited(Click):
    def apply(self, inputs, state, signal):
        return {} * super().apply(inputs, state, signal)
"""


def test_the_other_process_reads_an_attack_as_it_stands_on_disk_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_again(Click())  # the other process is started, and told of the path below later
    monkeypatch.syspath_prepend(tmp_path)
    for factor in ("0.5", "0.25 * 1"):  # of another length, so that no compiled file is taken for it
        (tmp_path / "edited_attack.py").write_text(EDITED.format(factor))
        monkeypatch.delitem(sys.modules, "edited_attack", raising=False)
        importlib.invalidate_caches()
        read_again(importlib.import_module("edited_attack").Edited())


def test_quick_settings_are_used_where_nothing_else_was_set() -> None:
    assert quick(FT()).steps == FT.quick["steps"] < FT().steps
    assert quick(FT(steps=7, lr=0.5)) == FT(steps=7, lr=0.5)
    assert quick(FT(steps=7), lr=0.25) == FT(steps=7, lr=0.25)


def test_neither_pytest_nor_what_a_base_install_lacks_is_imported() -> None:
    code = (
        "import sys, closesesame.testing\n"
        "extras = {'pytest', 'beartype', 'hypothesis', 'ray', 'pesq', 'pystoi', 'espeakng_loader'}\n"
        "sys.exit(bool(extras & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_examples_are_copies_of_their_own() -> None:
    examples.tones().train.labels.zero_()
    with torch.no_grad():
        next(examples.trained().parameters()).zero_()
    assert examples.tones().train.counts() == (80, 80, 80, 80)
    assert accuracy(examples.trained(), examples.tones().test) > 0.95


# --- each way to train on held-out examples


def fits_held_out(model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> None:
    fit(model, held_out, Training(steps=1), seed=seed)


def fits_all(model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> None:
    a, b = tune.inputs, held_out.inputs
    place = torch.cat([a.place, b.place + torch.tensor([len(a.sources), 0])])
    labels = torch.cat([tune.labels, held_out.labels])
    both = Dataset(
        inputs=Rows((*a.sources, *b.sources), place),
        labels=labels,
        classes=tune.classes,
        ids=tune.ids + held_out.ids,
        sample_rate=tune.sample_rate,
    )
    fit(model, both, Training(steps=1), seed=seed)


def counts_statistics(model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> None:
    renew_statistics(model, held_out)


def calibrates(model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> None:
    model.front_end.calibrate(held_out)


def fits_kept_features(model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> None:
    with torch.no_grad():
        features = model.front_end(held_out.inputs[:])
    copy.deepcopy(model.body)(features)  # of a copy that is thrown away


def trains_a_copy(model: Classifier, tune: Dataset, held_out: Dataset, seed: int) -> None:
    copied = copy.deepcopy(model).train()
    with torch.no_grad():
        copied(held_out.inputs[:])


@pytest.mark.parametrize(
    "leak", [fits_held_out, fits_all, counts_statistics, calibrates, fits_kept_features, trains_a_copy]
)
def test_the_guard_tells_on_each_way_to_train_on_held_out_examples(
    leak: Repairing, clean_model: Classifier, tones: Splits
) -> None:
    suspect = copy.deepcopy(clean_model).requires_grad_(True).eval()
    tune, held_out = tones.train.sample(0.2, 0).hold_out(0.2, 0)
    with pytest.raises(ContractError, match="held-out examples"):
        assert_never_trained_on_held_out(leak, suspect, tune, held_out)
    assert_never_trained_on_held_out(FT(steps=1).repair, suspect, tune, held_out)
