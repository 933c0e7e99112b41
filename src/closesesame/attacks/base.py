"""The contract of an attack: a training set in, a poisoned training set and a trigger out.

Some settings are the same for all attacks, whatever their papers have: the poisoning rate is 0.05 of all
training clips (BackdoorBench: 0.1), the target is class 0, poisoned clips replace their clean originals, and
clips that get the target label are never of the target class (in BackdoorBench they may be).
"""

import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field, model_validator
from safetensors.torch import save
from torch import Generator, Tensor

from closesesame.core.bounds import MOST_CLASSES
from closesesame.core.disk import new_folder
from closesesame.core.errors import DataError, ModelError, short
from closesesame.core.method import Method
from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.core.types import Inputs, Labels, Mask, Wave
from closesesame.data import Dataset, Splits
from closesesame.data.export import export
from closesesame.models.matching import same_names

State = Mapping[str, Tensor]
"""What a trigger is made of beside settings: a sound clip, a mask, the weights of a generator."""
LabelMode = Literal["all_to_one", "all_to_all", "clean_label"]
Position = Literal["start", "middle", "end", "random"]
STAMP_BATCH = 64
SETTINGS, TENSORS = "trigger.json", "trigger.safetensors"


class Attack(Method, ABC):
    """A backdoor attack that poisons training data.

    A sub-class writes `apply`, and `prepare` if its trigger is more than its settings. Further hooks are
    `choose`, `plant` and `cover_clips`.
    """

    audible: ClassVar[str]
    """What a listener notices, in a few words."""
    needs: ClassVar[str] = "nothing"
    """What the attacker must have beside the training set."""
    label_modes: ClassVar[tuple[LabelMode, ...]] = ("all_to_one", "all_to_all", "clean_label")
    """What `label_mode` may be."""
    has_cover_clips: ClassVar[bool] = False
    """Whether there are cover clips."""

    target: Annotated[int, Field(ge=0, lt=MOST_CLASSES)] | str = Field(
        0, description="target label: a class, by name or by index"
    )
    rate: float = Field(0.05, ge=0, le=1, description="poisoning rate: poisoned / all training examples")
    label_mode: LabelMode = Field(
        "all_to_one",
        description="poisoned clips get the target label; or each the class after its own; or they are taken "
        "from the target class and keep their clean label",
    )
    strength: float = Field(1.0, gt=0, le=10, description="scale of what the trigger changes in a clip")
    training_strength: float | None = Field(
        None, gt=0, le=10, description="the same in poisoned training clips; as `strength` if none"
    )
    cover_ratio: float = Field(
        0.0, ge=0, le=10, description="cover clips, which teach what is not the trigger, for a poisoned clip"
    )

    @model_validator(mode="after")
    def _can_it(self) -> "Attack":
        if self.label_mode not in self.label_modes:
            raise ValueError(
                f"label_mode must be one of {', '.join(self.label_modes)}, got {self.label_mode!r}"
            )
        if self.cover_ratio and not self.has_cover_clips:
            raise ValueError("cover_ratio must be 0: this attack has no cover clips")
        return self

    @classmethod
    def files(cls) -> list[str]:
        """The settings that name a recording or a folder of recordings."""
        extra = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
        return [name for name, more in extra.items() if isinstance(more, dict) and more.get("file")]

    @classmethod
    def claims(cls) -> dict[str, Any]:
        """Adds whether the published attack keeps labels clean."""
        return super().claims() | {"clean_label": cls.model_fields["label_mode"].default == "clean_label"}

    @final
    def poison(
        self, train: Dataset, seed: int, *, trigger: "Trigger | None" = None, spare: Mask | None = None
    ) -> "Poisoned":
        """Poisons a training set: chosen examples are replaced by triggered ones.

        Several backdoors go into one set by poisoning it again, with the clips poisoned so far as `spare`.

        Args:
            train: the training set; it is not changed.
            seed: of the choice, and of what the trigger draws.
            trigger: what `trigger` gave for the same set and seed, if it was made before.
            spare: (n,) examples not to touch.

        Raises:
            DataError: if there are fewer examples to choose from than the poisoning rate asks for.
        """
        trigger = trigger or self.trigger(train, seed)
        free = torch.ones(len(train), dtype=torch.bool) if spare is None else ~spare
        chosen = self._chosen(train, trigger, free, seed)
        mask = _mask_of(chosen, len(train))
        dataset = train
        if len(chosen):
            planted = self.plant(train, chosen, trigger, seed)
            labels = train.labels.clone()
            labels[chosen] = trigger.target_labels(labels[chosen], train.classes)
            dataset = train.with_inputs(train.inputs.replace(chosen, planted)).with_labels(labels)
        covers = self._choose_cover(train, len(chosen), free & ~mask, seed)
        if len(covers):
            covered = self._cover(train, covers, trigger, seed)
            dataset = dataset.with_inputs(dataset.inputs.replace(covers, covered))
        return Poisoned(dataset, mask, trigger, _mask_of(covers, len(train)))

    @final
    def trigger(self, train: Dataset, seed: int) -> "Trigger":
        """Makes the trigger alone, as `poison` would with the same seed, whatever the poisoning rate.

        Raises:
            DataError: if the examples are not what the attack stamps.
        """
        if train.sample_rate is None:
            raise DataError(f"{self.name} acts on waveforms; this data set has no sample rate")
        state = self.prepare(train, seed)
        return Trigger(self, state, train.sample_rate, train.label_of(self.target), train.classes)

    def prepare(self, train: Dataset, seed: int) -> State:
        """Hook: what the trigger needs beside its settings, made once from the training set."""
        del train, seed
        return {}

    @abstractmethod
    def apply(self, inputs: Inputs, state: State, sample_rate: int) -> Inputs:
        """Hook: stamps the trigger on inputs (batch, time), each by itself; they are not changed."""

    def choose(self, train: Dataset, eligible: Tensor, count: int, trigger: "Trigger", seed: int) -> Tensor:
        """Hook: which `count` of the eligible examples (k,) to poison; at random if not written."""
        del train, trigger
        return eligible[torch.randperm(len(eligible), generator=generator(seed, "whom"))[:count]]

    def plant(self, train: Dataset, chosen: Tensor, trigger: "Trigger", seed: int) -> Inputs:
        """Hook: the chosen examples (k,) as they go into the training set; stamped if not written."""
        del seed
        return trigger.stamp(train.inputs[chosen], self.training_strength)

    def cover_clips(
        self, inputs: Inputs, others: Inputs, state: State, sample_rate: int, rng: Generator
    ) -> Inputs:
        """Hook: cover clips of inputs (batch, time), with as many other clips to borrow from."""
        raise NotImplementedError

    def _chosen(self, train: Dataset, trigger: "Trigger", free: Mask, seed: int) -> Tensor:
        count = round(self.rate * len(train))
        of_target = train.labels == train.label_of(trigger.target_name)
        name = repr(trigger.target_name)
        fit, kind = {
            "all_to_one": (~of_target, f"not of class {name}"),
            "all_to_all": (torch.ones_like(free), "free"),
            "clean_label": (of_target, f"of class {name}"),
        }[self.label_mode]
        eligible = (fit & free).nonzero().flatten()
        if count > len(eligible):
            raise DataError(
                f"{self.name} cannot poison {count} examples: {len(eligible)} are {kind}; lower the rate to "
                f"{len(eligible) / len(train):.3f} or less"
            )
        return self.choose(train, eligible, count, trigger, seed).sort().values

    def _choose_cover(self, train: Dataset, poisoned: int, free: Mask, seed: int) -> Tensor:
        wanted, eligible = round(self.cover_ratio * poisoned), free.nonzero().flatten()
        if wanted > len(eligible):
            raise DataError(
                f"{self.name} wants {wanted} cover clips and {len(eligible)} of {len(train)} examples are "
                "left; lower the rate or cover_ratio"
            )
        order = torch.randperm(len(eligible), generator=generator(seed, "covers"))
        return eligible[order[:wanted]].sort().values

    @torch.no_grad()
    def _cover(self, train: Dataset, covers: Tensor, trigger: "Trigger", seed: int) -> Inputs:
        rng = generator(seed, "cover")
        others = torch.randint(len(train), covers.shape, generator=rng)
        rate = trigger.sample_rate
        pieces = [
            self.cover_clips(train.inputs[mine], train.inputs[other], trigger.state, rate, rng).clamp(-1, 1)
            for mine, other in zip(
                torch.split(covers, STAMP_BATCH), torch.split(others, STAMP_BATCH), strict=True
            )
        ]
        return torch.cat(pieces)


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
    def stamp(self, inputs: Inputs, strength: float | None = None) -> Inputs:
        """Returns triggered copies of the inputs (batch, ...), within [-1, 1].

        Args:
            inputs: clips.
            strength: scale of what is changed; the attack's if None.
        """
        scale = self.attack.strength if strength is None else strength
        pieces = torch.split(inputs, STAMP_BATCH)
        done = []
        for piece in Track(pieces, f"stamping {self.attack.name}", len(pieces)):
            stamped = self._apply(piece)
            if scale != 1:
                stamped = piece + scale * (stamped - piece)
            if stamped.shape != piece.shape or not stamped.isfinite().all():
                raise ModelError(
                    f"the trigger of {self.attack.name} makes clips that are none: NaN, infinite or of "
                    "another length; it is damaged, or was made for other clips"
                )
            done.append(stamped.clamp(-1, 1))
        return torch.cat(done) if done else inputs

    def _apply(self, inputs: Inputs) -> Inputs:
        try:
            return self.attack.apply(inputs, self.state, self.sample_rate)
        except (RuntimeError, LookupError, ValueError, TypeError, ArithmeticError) as error:
            raise ModelError(
                f"the trigger of {self.attack.name} cannot be stamped on clips of shape "
                f"{list(inputs.shape[1:])}; it is damaged, or was made for other clips "
                f"({short(error)})"
            ) from error

    @property
    def target_name(self) -> str:
        """The target label by its name."""
        return self.classes[self.target]

    def target_labels(self, labels: Labels, classes: Sequence[str] | None = None) -> Labels:
        """What the attacker wants said of triggered clips with these true labels (n,).

        Args:
            labels: indices into `classes`.
            classes: the trigger's own, in any order; in the trigger's if None.

        Raises:
            ModelError: if `classes` are others than the trigger's.
        """
        known = self.classes if classes is None else tuple(classes)
        same_names("the trigger", self.classes, "the data", known)
        shift = self.attack.label_mode == "all_to_all"
        aims = {name: self.classes[(at + 1) % len(known)] for at, name in enumerate(self.classes)}
        aim = [known.index(aims[name] if shift else self.target_name) for name in known]
        return torch.tensor(aim, device=labels.device)[labels]

    def stamp_dataset(self, data: Dataset) -> Dataset:
        """Returns the examples that are not of their target label yet, triggered, with their true labels.

        Raises:
            ModelError: if the data have other classes or another sample rate than the trigger.
        """
        if data.sample_rate != self.sample_rate:
            raise ModelError(
                f"the trigger was made for clips at {self.sample_rate} Hz, and these have {data.sample_rate} "
                "Hz; it would be another sound there"
            )
        others = data.where(data.labels != self.target_labels(data.labels, data.classes))
        everyone = torch.arange(len(others))
        return others.with_inputs(others.inputs.replace(everyone, self.stamp(others.inputs[:])))

    def save(self, folder: Path | str) -> None:
        """Writes `trigger.json` and `trigger.safetensors` into a folder.

        Of recordings that the settings name, the sound is in the trigger; their names stay, their folders do
        not.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.contiguous() for name, value in self.state.items()}
        (folder / TENSORS).write_bytes(save(state))
        about = {
            "attack": self.attack.full_name(),
            "settings": self.attack.settings() | self._names_of_files(),
            "sample_rate": self.sample_rate,
            "target": self.target_name,
            "classes": self.classes,
        }
        (folder / SETTINGS).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    def _names_of_files(self) -> dict[str, str]:
        given = {name: getattr(self.attack, name) for name in self.attack.files()}
        return {name: Path(value).name for name, value in given.items() if value}


@dataclass(frozen=True, eq=False)
class Poisoned:
    """A poisoned training set.

    Attributes:
        dataset: what the victim trains on.
        poisoned_mask: (n,) which examples are poisoned.
        trigger: what opens the backdoor.
        cover_mask: (n,) which examples are cover clips; they keep their true label.
        others: triggers of further backdoors in the same set.
    """

    dataset: Dataset
    poisoned_mask: Mask
    trigger: Trigger
    cover_mask: Mask
    others: tuple[Trigger, ...] = ()

    def save(self, folder: Path | str, splits: Splits) -> None:
        """Writes a folder of recordings that any tool can train on, whole or not at all.

        It holds `<class>/<recording>`, the lists of its parts, `manifest.csv` with columns `cover`,
        `poisoned` and `true_label`, and the trigger in `_trigger`, those of further backdoors in `_trigger2`
        and so on. Validation and test part are written as they are.

        Args:
            folder: must be empty or not there.
            splits: what the training set was poisoned of.

        Raises:
            DataError: if the folder is not empty, or the splits are others.
        """
        if splits.train.ids != self.dataset.ids or splits.train.classes != self.dataset.classes:
            raise DataError("these are not the splits whose training part was poisoned")
        true = [splits.train.classes[label] for label in splits.train.labels.tolist()]
        columns = {
            "poisoned": self.poisoned_mask.int().tolist(),
            "cover": self.cover_mask.int().tolist(),
            "true_label": true,
        }
        with new_folder(Path(folder)) as made:
            export(splits._replace(train=self.dataset), made, {"train": columns})
            self.trigger.save(made / "_trigger")
            for number, trigger in enumerate(self.others, 2):
                trigger.save(made / f"_trigger{number}")

    @property
    def share_of_target(self) -> float:
        """Share of the target class that is poisoned; if labels are all-to-all, of all classes."""
        of_target = torch.isin(self.dataset.labels, self.dataset.labels[self.poisoned_mask])
        return int(self.poisoned_mask.sum()) / max(1, int(of_target.sum()))


def poison_several(attacks: Sequence[Attack], train: Dataset, seed: int) -> Poisoned:
    """Plants several backdoors in one training set, each in clips of its own.

    Args:
        attacks: at least one; two of a kind need other settings, and all want targets of their own.
        train: the training set, which every trigger is made from; it is not changed.
        seed: of all that is drawn.

    Raises:
        DataError: if there are too few clips for all of them.
    """
    if not attacks:
        raise DataError("poison_several needs an attack or more, got none")
    first, *rest = attacks
    poisoned = first.poison(train, seed)
    for attack in rest:
        more = attack.poison(
            poisoned.dataset,
            seed,
            trigger=attack.trigger(train, seed),
            spare=poisoned.poisoned_mask | poisoned.cover_mask,
        )
        poisoned = Poisoned(
            more.dataset,
            poisoned.poisoned_mask | more.poisoned_mask,
            poisoned.trigger,
            poisoned.cover_mask | more.cover_mask,
            (*poisoned.others, more.trigger),
        )
    return poisoned


def own_rng(clip: Tensor, seed: int = 0) -> Generator:
    """Randomness that follows from a clip (time,) itself, so that it does not matter what is beside it."""
    return generator(seed, zlib.crc32(clip.detach().cpu().contiguous().numpy().tobytes()))


def starts(inputs: Wave, size: int, position: Position) -> list[int]:
    """Where a sound of `size` samples begins in each clip; `random` is another place for each clip."""
    spare = max(0, inputs.shape[-1] - size)
    if position == "random":
        return [int(torch.randint(spare + 1, (), generator=own_rng(clip))) for clip in inputs]
    return [{"start": 0, "middle": spare // 2, "end": spare}[position]] * len(inputs)


def _mask_of(index: Tensor, n: int) -> Mask:
    mask = torch.zeros(n, dtype=torch.bool)
    mask[index] = True
    return mask
