"""The contract of an attack: a training set in, a poisoned training set and a trigger out.

Some settings are the same for all attacks, whatever their papers have: the poisoning rate is 0.05 of all
training clips (BackdoorBench: 0.1), the target is class 0, poisoned clips replace their clean originals, and
clips that get the target label are never of the target class (in BackdoorBench they may be).
"""

import json
import math
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
from closesesame.core.domain import Domain
from closesesame.core.errors import DataError, ModelError, short
from closesesame.core.evidence import Evidence
from closesesame.core.method import Method
from closesesame.core.progress import Track
from closesesame.core.seeding import generator
from closesesame.core.types import Inputs, Labels, Mask
from closesesame.data import Dataset, Splits
from closesesame.data.export import export
from closesesame.models.matching import same_names

State = Mapping[str, Tensor]
"""What a trigger consists of beside its settings: a sound, a mask, the weights of a generator."""
LabelMode = Literal["all_to_one", "all_to_all", "clean_label"]
STAMP_BATCH = 64
SETTINGS, TENSORS = "trigger.json", "trigger.safetensors"


@dataclass(frozen=True)
class Signal:
    """What kind of inputs a trigger is stamped on.

    Attributes:
        domain: speech or pictures; its bounds are those of a value.
        sample_rate: Hz; None for what is no sound.
    """

    domain: Domain
    sample_rate: int | None = None

    @classmethod
    def of(cls, data: Dataset) -> "Signal":
        """The kind of the examples of a data set."""
        return cls(data.domain, data.sample_rate)

    @property
    def hz(self) -> int:
        """The sample rate, for attacks on sound."""
        if self.sample_rate is None:
            raise AssertionError(f"{self.domain.name} have no sample rate")
        return self.sample_rate

    def __str__(self) -> str:
        rate = "no sample rate" if self.sample_rate is None else f"{self.sample_rate} Hz"
        return f"{self.domain.name} ({rate})"


class Attack(Method, ABC):
    """A backdoor attack that poisons training data.

    A sub-class writes the hook `apply`, and `prepare` if its trigger is more than its settings. It writes
    `choose`, `plant` or `cover_clips` only where its paper differs from what they do by themselves.

    It sees the training set, and a surrogate model that it trains on it: no test set and no other model.
    """

    audible: ClassVar[str]
    """What a listener notices, in a few words."""
    needs: ClassVar[str] = "nothing"
    """What the attacker must have beside the training set; an open clause ends with a comma."""
    label_modes: ClassVar[tuple[LabelMode, ...]] = ("all_to_one", "all_to_all", "clean_label")
    """What `label_mode` may be."""
    has_cover_clips: ClassVar[bool] = False
    """Whether `cover_clips` is written, so that `cover_ratio` may be more than 0."""

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
    def _is_able_to(self) -> "Attack":
        if self.label_mode not in self.label_modes:
            modes = ", ".join(self.label_modes)
            raise ValueError(f"label_mode must be one of {modes}, got {self.label_mode!r}")
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

    @classmethod
    def claims_in_words(cls) -> dict[str, str]:
        """How audible the trigger is, what the attacker needs, and what labels poisoned clips have."""
        clean = cls.claims()["clean_label"]
        return {
            "heard": cls.audible,
            "needs": f"{'nothing' if cls.needs == 'nothing' else cls.needs} beside the training set",
            "labels": f"poisoned clips {'keep their true' if clean else 'get the target'} label",
        }

    @final
    def poison(
        self, train: Dataset, seed: int, *, trigger: "Trigger | None" = None, spare: Mask | None = None
    ) -> "Poisoned":
        """Poisons a training set: chosen examples are replaced by triggered ones.

        Several backdoors go into one set by poisoning it again, with the examples poisoned so far as `spare`.

        Args:
            train: the training set; it is not changed.
            seed: of the choice, and of what the trigger draws.
            trigger: what `trigger` returned for the same set and seed, if it was made before.
            spare: (n,) examples not to touch.

        Raises:
            DataError: if there are fewer examples to choose from than the poisoning rate asks for.
        """
        free = torch.ones(len(train), dtype=torch.bool) if spare is None else ~spare
        count, eligible = self._eligible(train, free)
        trigger = trigger or self.trigger(train, seed)
        domain = trigger.signal.domain
        chosen = self.choose(train, eligible, count, trigger, seed).sort().values
        poisoned_mask = _mask_of(chosen, len(train))
        dataset = train
        if len(chosen):
            planted = self.plant(train, chosen, trigger, seed).clamp(domain.low, domain.high)
            labels = train.labels.clone()
            labels[chosen] = trigger.target_labels(labels[chosen], train.classes)
            dataset = train.with_inputs(train.inputs.replace(chosen, planted)).with_labels(labels)
        covers = self._chosen_for_cover(train, len(chosen), free & ~poisoned_mask, seed)
        if len(covers):
            covered = self._covered(train, covers, trigger, seed).clamp(domain.low, domain.high)
            dataset = dataset.with_inputs(dataset.inputs.replace(covers, covered))
        return Poisoned(dataset, poisoned_mask, trigger, _mask_of(covers, len(train)))

    @final
    def trigger(self, train: Dataset, seed: int) -> "Trigger":
        """Makes the trigger alone, as `poison` would with the same seed, whatever the poisoning rate.

        Raises:
            DataError: if the examples are of a domain that the attack does not work on.
        """
        signal = Signal.of(train)
        if signal.domain.name not in self.domains:
            known = " and ".join(self.domains)
            raise DataError(f"{self.name} poisons {known}, and this data set holds {signal}")
        return Trigger(self, self.prepare(train, seed), signal, train.label_of(self.target), train.classes)

    def prepare(self, train: Dataset, seed: int) -> State:
        """Hook: makes what the trigger needs beside its settings, once; nothing by default.

        Args:
            train: the clean training set. How many examples are poisoned must not matter.
            seed: of all that is drawn.

        Returns:
            Tensors by name, on the CPU, of floats or int64. They are saved with the trigger, and are all that
            `apply` knows of the training set.
        """
        del train, seed
        return {}

    @abstractmethod
    def apply(self, inputs: Inputs, state: State, signal: Signal) -> Inputs:
        """Hook: stamps the trigger on inputs.

        Args:
            inputs: (batch, time) of speech or (batch, channel, height, width) of pictures, float32, within
                the bounds of `signal.domain`, on any device. They must not be changed.
            state: what `prepare` returned, on the CPU.
            signal: the kind of the inputs. They may be of another length than the training clips.

        Returns:
            Triggered inputs of the same shape and type, on the device of the inputs, each stamped as if it
            were alone in its batch. They may leave the bounds: values beyond are clamped afterwards.
        """

    def choose(self, train: Dataset, eligible: Tensor, count: int, trigger: "Trigger", seed: int) -> Tensor:
        """Hook: chooses the examples to poison; at random by default.

        Args:
            train: the training set.
            eligible: (k,) int64, the rows that may be poisoned: those of the target class if labels stay
                clean, those of other classes if all get the target label.
            count: how many to choose, at most k.
            trigger: to be stamped on them.
            seed: of the choice.

        Returns:
            (count,) int64, rows out of `eligible`, none twice, in any order.
        """
        del train, trigger
        return eligible[torch.randperm(len(eligible), generator=generator(seed, "whom"))[:count]]

    def plant(self, train: Dataset, chosen: Tensor, trigger: "Trigger", seed: int) -> Inputs:
        """Hook: makes the poisoned training examples; stamps them with `training_strength` by default.

        Args:
            train: the training set.
            chosen: (k,) int64, the rows to poison, in order.
            trigger: its `stamp` is what it does to inputs later.
            seed: of all that is drawn.

        Returns:
            (k, ...) float32 on the CPU, one input a row. Values beyond the domain's bounds are clamped.
        """
        del seed
        return trigger.stamp(train.inputs[chosen], self.training_strength)

    def cover_clips(
        self, inputs: Inputs, others: Inputs, state: State, signal: Signal, rng: Generator
    ) -> Inputs:
        """Hook: makes cover clips, which keep their label and are changed otherwise than by the trigger.

        A class that writes it sets `has_cover_clips`.

        Args:
            inputs: (batch, ...) the clips to change, as in `apply`.
            others: (batch, ...) as many other clips of the training set, to borrow from.
            state: what `prepare` returned.
            signal: the kind of the inputs.
            rng: for all that is drawn.

        Returns:
            Cover clips of the same shape, on the device of the inputs. Values beyond the bounds are clamped.
        """
        raise NotImplementedError

    def evidence(self, state: State) -> Evidence | None:
        """Hook: what the trigger shows of how it was made, for a report; nothing by default.

        Args:
            state: what `prepare` returned.
        """
        del state
        return None

    def _eligible(self, train: Dataset, free: Mask) -> tuple[int, Tensor]:
        """How many examples shall be poisoned, and the rows that may be."""
        count, target = round(self.rate * len(train)), train.label_of(self.target)
        of_target, name = train.labels == target, repr(train.classes[target])
        fit, kind = {
            "all_to_one": (~of_target, f"not of class {name}"),
            "all_to_all": (torch.ones_like(free), "free"),
            "clean_label": (of_target, f"of class {name}"),
        }[self.label_mode]
        eligible = (fit & free).nonzero().flatten()
        if count > len(eligible):
            most = math.floor(1000 * len(eligible) / len(train)) / 1000
            remedy = f"lower the rate to {most:.3f} or less" if most else "choose another target"
            raise DataError(
                f"{self.name} cannot poison {count} examples: {len(eligible)} are {kind}; {remedy}"
            )
        return count, eligible

    def _chosen_for_cover(self, train: Dataset, poisoned: int, free: Mask, seed: int) -> Tensor:
        count, eligible = round(self.cover_ratio * poisoned), free.nonzero().flatten()
        if count > len(eligible):
            raise DataError(
                f"{self.name} wants {count} cover clips and {len(eligible)} of {len(train)} examples are "
                "left; lower the rate or cover_ratio"
            )
        order = torch.randperm(len(eligible), generator=generator(seed, "covers"))
        return eligible[order[:count]].sort().values

    @torch.no_grad()
    def _covered(self, train: Dataset, covers: Tensor, trigger: "Trigger", seed: int) -> Inputs:
        rng = generator(seed, "cover")
        others = torch.randint(len(train), covers.shape, generator=rng)
        pairs = zip(torch.split(covers, STAMP_BATCH), torch.split(others, STAMP_BATCH), strict=True)
        pieces = [
            self.cover_clips(train.inputs[mine], train.inputs[other], trigger.state, trigger.signal, rng)
            for mine, other in pairs
        ]
        return torch.cat(pieces)


@dataclass(frozen=True, eq=False)
class Trigger:
    """What an attacker plays: it can be saved, loaded and stamped on new inputs at any time.

    Attributes:
        attack: the settings.
        state: tensors the attack made in `prepare`.
        signal: the kind of inputs it fits.
        target: index of the target label.
        classes: names of the classes.
    """

    attack: Attack
    state: State
    signal: Signal
    target: int
    classes: tuple[str, ...]

    @torch.no_grad()
    def stamp(self, inputs: Inputs, strength: float | None = None) -> Inputs:
        """Returns triggered copies of the inputs (batch, ...), clamped to the bounds of their domain.

        Args:
            inputs: as the hook `apply` takes them.
            strength: scale of what is changed; the attack's if None.

        Raises:
            ModelError: if the trigger does not fit the inputs.
        """
        scale = self.attack.strength if strength is None else strength
        domain = self.signal.domain
        if not len(inputs):
            return inputs  # some transforms refuse a batch of none
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
            done.append(stamped.clamp(domain.low, domain.high))
        return torch.cat(done)

    def _apply(self, inputs: Inputs) -> Inputs:
        try:
            return self.attack.apply(inputs, self.state, self.signal)
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
        """Returns what the attacker wants a model to answer to triggered inputs with these true labels (n,).

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
            ModelError: if the data have other classes, or are of another kind or sample rate.
        """
        if Signal.of(data) != self.signal:
            raise ModelError(
                f"the trigger was made for {self.signal}, and the data hold {Signal.of(data)}; it would be "
                "another trigger there"
            )
        others = data.where(data.labels != self.target_labels(data.labels, data.classes))
        everyone = torch.arange(len(others))
        return others.with_inputs(others.inputs.replace(everyone, self.stamp(others.inputs[:])))

    def save(self, folder: Path | str) -> None:
        """Writes `trigger.json` and `trigger.safetensors` into a folder.

        The trigger contains the sound of a recording that its settings name. So the name of the recording is
        kept, and its folder is not.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.contiguous() for name, value in self.state.items()}
        (folder / TENSORS).write_bytes(save(state))
        about = {
            "attack": self.attack.full_name(),
            "settings": self.attack.settings() | self._names_of_files(),
            "domain": self.signal.domain.name,
            "sample_rate": self.signal.sample_rate,
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
        trigger: the trigger of the backdoor.
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
            splits: those whose training part was poisoned.

        Raises:
            DataError: if the folder is not empty, the splits are others, or the examples are no speech.
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
        """Share of the target class that is poisoned; of all classes if labels are all-to-all."""
        of_target = torch.isin(self.dataset.labels, self.dataset.labels[self.poisoned_mask])
        return int(self.poisoned_mask.sum()) / max(1, int(of_target.sum()))


def _mask_of(index: Tensor, n: int) -> Mask:
    mask = torch.zeros(n, dtype=torch.bool)
    mask[index] = True
    return mask
