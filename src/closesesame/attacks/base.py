"""The contract of an attack: a training set in, a poisoned training set and a trigger out."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Generator, Tensor

from closesesame.core.errors import DataError
from closesesame.core.method import Method
from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.core.types import Inputs, Mask
from closesesame.data import Dataset, Splits
from closesesame.data.export import export, new_folder

State = Mapping[str, Tensor]
"""What a trigger is made of beside settings: a sound clip, a mask, the weights of a generator."""
STAMP_BATCH = 64
SETTINGS, TENSORS = "trigger.json", "trigger.safetensors"


class Attack(Method, ABC):
    """A backdoor attack that poisons training data.

    A sub-class writes `apply`, and `prepare` if its trigger is more than its settings.
    """

    clean_label: ClassVar[bool] = False
    """Whether poisoned examples keep their true label, and so come from the target class."""
    audible: ClassVar[str]
    """What a listener notices, in a few words."""

    target: int | str = Field(0, description="target label: a class, by name or by index")
    rate: float = Field(0.05, ge=0, le=1, description="poisoning rate: poisoned / all training examples")

    @final
    def poison(self, train: Dataset, seed: int) -> "Poisoned":
        """Poisons a training set: chosen examples are replaced by triggered ones with the target label.

        Args:
            train: the training set; it is not changed.
            seed: of the choice, and of what the trigger draws.

        Raises:
            DataError: if there are fewer examples to choose from than the poisoning rate asks for.
        """
        target = train.label_of(self.target)
        trigger = self.trigger(train, seed)
        wanted = round(self.rate * len(train))
        eligible = (train.labels != target).nonzero().flatten()
        if wanted > len(eligible):
            raise DataError(
                f"{self.name} cannot poison {wanted} examples: {len(eligible)} are not of class "
                f"{train.classes[target]!r}; lower the rate to {len(eligible) / len(train):.3f} or less"
            )
        chosen = eligible[torch.randperm(len(eligible), generator=generator(seed, "whom"))[:wanted]]
        chosen = chosen.sort().values
        mask = torch.zeros(len(train), dtype=torch.bool)
        mask[chosen] = True
        dataset = train
        if wanted:
            stamped = trigger.stamp(train.inputs[chosen])
            labels = train.labels.clone()
            labels[chosen] = target
            dataset = train.with_inputs(train.inputs.replace(chosen, stamped)).with_labels(labels)
        return Poisoned(dataset, mask, trigger)

    @final
    def trigger(self, train: Dataset, seed: int) -> "Trigger":
        """Makes the trigger alone, as `poison` would with the same seed.

        Raises:
            DataError: if the examples are not what the attack stamps.
        """
        if train.sample_rate is None:
            raise DataError(f"{self.name} acts on waveforms; this data set has no sample rate")
        state = self.prepare(train, generator(seed, "trigger"))
        return Trigger(self, state, train.sample_rate, train.label_of(self.target), train.classes)

    def prepare(self, train: Dataset, rng: Generator) -> State:
        """Hook: what the trigger needs beside its settings, made once from the training set."""
        del train, rng
        return {}

    @abstractmethod
    def apply(self, inputs: Inputs, state: State, sample_rate: int) -> Inputs:
        """Hook: stamps the trigger on inputs (batch, time), each by itself; they are not changed."""


@dataclass(frozen=True, eq=False)
class Trigger:
    """What an attacker plays: it can be saved, loaded and stamped on new inputs at any time.

    Attributes:
        attack: the settings.
        state: tensors the attack made in `prepare`.
        sample_rate: Hz, of the inputs it fits.
        target: index of the target label.
        classes: names of the classes.
    """

    attack: Attack
    state: State
    sample_rate: int
    target: int
    classes: tuple[str, ...]

    @torch.no_grad()
    def stamp(self, inputs: Inputs) -> Inputs:
        """Returns triggered copies of the inputs (batch, ...), within [-1, 1]."""
        what = f"stamping {self.attack.name}"
        pieces = torch.split(inputs, STAMP_BATCH)
        done = [
            self.attack.apply(piece, self.state, self.sample_rate).clamp(-1, 1)
            for piece in Track(pieces, what, len(pieces))
        ]
        return torch.cat(done)

    def stamp_dataset(self, data: Dataset) -> Dataset:
        """Returns the examples that are not of the target label, triggered, with their true labels."""
        others = data.where(data.labels != self.target)
        everyone = torch.arange(len(others))
        return others.with_inputs(others.inputs.replace(everyone, self.stamp(others.inputs[:])))

    def save(self, folder: Path | str) -> None:
        """Writes `trigger.json` and `trigger.safetensors` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self.state.items()}, folder / TENSORS)
        about = {
            "attack": self.attack.name,
            "settings": self.attack.settings(),
            "sample_rate": self.sample_rate,
            "target": self.target,
            "classes": self.classes,
        }
        (folder / SETTINGS).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True, eq=False)
class Poisoned:
    """A poisoned training set.

    Attributes:
        dataset: what the victim trains on.
        mask: (n,) which examples are poisoned.
        trigger: what opens the backdoor.
    """

    dataset: Dataset
    mask: Mask
    trigger: Trigger

    def save(self, folder: Path | str, splits: Splits) -> None:
        """Writes a folder of recordings that any tool can train on, whole or not at all.

        It holds `<class>/<recording>`, the lists of its parts, `manifest.csv` with columns `poisoned` and
        `true_label`, and the trigger in `_trigger`. Validation and test part are written as they are.

        Args:
            folder: must be empty or not there.
            splits: what the training set was poisoned of.

        Raises:
            DataError: if the folder is not empty.
        """
        true = [splits.train.classes[label] for label in splits.train.labels.tolist()]
        columns = {"train": {"poisoned": self.mask.int().tolist(), "true_label": true}}
        with new_folder(Path(folder)) as made:
            export(splits._replace(train=self.dataset), made, columns)
            self.trigger.save(made / "_trigger")

    @property
    def share_of_target(self) -> float:
        """Poisoned examples as a share of all that carry the target label."""
        carrying = int((self.dataset.labels == self.trigger.target).sum())
        return int(self.mask.sum()) / carrying if carrying else 0.0
