"""What the data show before a job is made: jobs that would all fail, or say nothing, are refused here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from closesesame.attacks import Attack
from closesesame.audio.files import SUFFIXES
from closesesame.audio.sounds import read_sound
from closesesame.core.errors import ClosesesameError, DataError, ModelError
from closesesame.data import Dataset, Splits
from closesesame.data.hold_out import HoldsOut
from closesesame.evaluation import Retune
from closesesame.evaluation.measures import RETUNE
from closesesame.families import Family
from closesesame.models import ARCHITECTURES, Architecture, Classifier
from closesesame.models.matching import few
from closesesame.removal.base import missing_sentence

from .protocol import largest_share
from .recipe import AttackEntry, DataEntry, MethodEntry, Recipe
from .stages import attack_of, made, named, sounds_of


def foresee(recipe: Recipe, entry: DataEntry, splits: Splits, data_folder: Path) -> list[str]:
    """Tries a recipe on one of its data sets, without training anything.

    Args:
        recipe: what will be measured.
        entry: the data set.
        splits: what was read of it.
        data_folder: where recordings of attacks lie.

    Returns:
        What will surprise in the figures, a sentence each.

    Raises:
        ClosesesameError: naming the entry of the recipe that cannot be run.
    """
    ahead = _Ahead(recipe, entry, splits, data_folder)
    ahead.check_parts()
    for attack in recipe.attack:
        ahead.check_sounds(attack)
        for rate in recipe.rates_of(attack):
            ahead.check_poisoning(attack, attack_of(attack, rate))
    if recipe.adversaries:
        ahead.check_adversaries()
    ahead.check_models()
    ahead.check_clean_sets()
    return list(dict.fromkeys(ahead.surprises()))


@dataclass(frozen=True)
class _Ahead:
    recipe: Recipe
    entry: DataEntry
    splits: Splits
    data_folder: Path

    def check_parts(self) -> None:
        """Every class has clips to train on, to test on, and where clean ones are drawn from."""
        drawn = any("clean" in family.needs(method) for family, _, method in self._methods())
        wanted = {"train", "test"} | ({self.recipe.protocol.clean_from} if drawn else set())
        for name, part in self.splits._asdict().items():
            missing = part.missing()
            if missing and name in wanted:
                raise DataError(
                    f"data set {self.entry.name!r} has no clip of {few(missing)} in its {name} part; choose "
                    "another 'split', or add recordings"
                )

    def check_sounds(self, attack: AttackEntry) -> None:
        """The recordings of an attack can be read at the sample rate of the data."""
        for path in sounds_of(attack).values():
            place = self.data_folder / path
            files = sorted(place.iterdir()) if place.is_dir() else [place]
            for file in files:
                if file == place or (file.suffix.lower() in SUFFIXES and not file.name.startswith(".")):
                    with named(f"attack {attack.shown!r}"):
                        read_sound(file, self.entry.sample_rate)

    def check_poisoning(self, entry: AttackEntry, attack: Attack) -> None:
        """The target label is a class, and there are clips enough to poison."""
        train, name = self.splits.train, f"attack {entry.shown!r} on data set {self.entry.name!r}"
        with named(name):
            target = train.label_of(attack.target)
        count, all_of_target = round(attack.rate * len(train)), int((train.labels == target).sum())
        eligible = {
            "all_to_one": len(train) - all_of_target,
            "all_to_all": len(train),
            "clean_label": all_of_target,
        }[attack.label_mode]
        if count > eligible:
            raise DataError(
                f"{name} cannot poison {count} clips, which is rate {attack.rate:g}: {eligible} of "
                f"{len(train)} may be poisoned; lower it to {largest_share(eligible, len(train)):g} or less"
            )
        if attack.rate and not count:
            raise DataError(
                f"{name} poisons no clip at rate {attack.rate:g}, since the training part has {len(train)}; "
                f"raise it to {1 / len(train):.2g} or more, or leave it out: rate 0 is always measured"
            )
        covers = round(attack.cover_ratio * count)
        if covers > len(train) - count:
            raise DataError(
                f"{name} wants {covers} cover clips at rate {attack.rate:g}, and {len(train) - count} are "
                "left; lower the rate or cover_ratio"
            )

    def check_adversaries(self) -> None:
        """The attacker has clips enough to retune a model on."""
        train, clean, most = self.splits.train, Retune().clean_clips, max(RETUNE)
        for entry in self.recipe.attack:
            attack = attack_of(entry, 0.0)
            of_target = int((train.labels == train.label_of(attack.target)).sum())
            others = len(train) - (0 if attack.label_mode == "all_to_all" else of_target)
            if others < most or len(train) < clean + most:
                raise DataError(
                    f"adversaries = true needs {most} training clips that are not of the target label, and "
                    f"{clean} others; data set {self.entry.name!r} has {others} of {len(train)}: leave it out"
                )

    def check_models(self) -> None:
        """Every model can be built for these clips, and every method finds in it what it needs."""
        train = self.splits.train
        for entry in self.recipe.model:
            architecture: Architecture = made(ARCHITECTURES, entry)
            with named(f"model {entry.shown!r} on data set {self.entry.name!r}"):
                model = _build(architecture, train)
            for family, method_entry, method in self._methods():
                if getattr(method, "requires", "") == "batch norm" and not _has_batch_norm(model):
                    raise ModelError(
                        f"{family.name} {method_entry.shown!r} needs {method.requires}, and model "
                        f"{entry.shown!r} has none; leave one of them out, or make two recipes"
                    )

    def check_clean_sets(self) -> None:
        """Every method gets clean clips enough to train on some and to check on the rest."""
        for family, entry, method in self._methods():
            for fraction, seed in self._draws(family, method):
                with named(f"{family.name} {entry.shown!r} on data set {self.entry.name!r}"):
                    self._check_clean_set(method, fraction, seed)

    def _check_clean_set(self, method: Any, fraction: float, seed: int) -> None:
        clean = self._clean(fraction, seed)
        if not isinstance(method, HoldsOut) or method.data_free:
            return
        tune, held_out = method.put_aside(clean, seed) if len(clean) else (clean, clean)
        if len(tune) < 2 or not len(held_out):
            raise DataError(
                f"clean fraction {fraction:g} is {len(clean)} clips: {len(tune)} to train on and "
                f"{len(held_out)} to check on, and {method.name} needs 2 and 1 at least; raise "
                f"clean_fractions to {8 / len(self.splits.train):.2g} or more"
            )

    def surprises(self) -> Iterator[str]:
        """Clean sets without some class: a removal may make the model forget it."""
        for family, _, method in self._methods():
            if family.makes != "model":
                continue
            for fraction, seed in self._draws(family, method):
                clean = self._clean(fraction, seed)
                missing = clean.missing()
                if missing and len(clean):
                    about = f"data set {self.entry.name!r}, clean fraction {fraction:g}, seed {seed}"
                    yield f"{about}: {missing_sentence(missing, len(clean.classes))}"

    def _methods(self) -> Iterator[tuple[Family, MethodEntry, Any]]:
        for family, entry in self.recipe.methods():
            yield family, entry, made(family.registry, entry)

    def _draws(self, family: Family, method: Any) -> list[tuple[float, int]]:
        """The shares of clean clips and the seeds that a method gets them with."""
        if "clean" not in family.needs(method):
            return []
        return [(share, seed) for share in self.recipe.clean_fractions for seed in self.recipe.seeds]

    def _clean(self, fraction: float, seed: int) -> Dataset:
        return self.recipe.protocol.clean_examples(self.splits, fraction, seed)


def _build(architecture: Architecture, train: Dataset) -> Classifier:
    try:
        return architecture.build(train.classes, train.input_shape, train.sample_rate, seed=0)
    except ClosesesameError:
        raise
    except Exception as error:  # of a network that is not ours, or torch's own of sizes that do not fit
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"it cannot be built with these settings ({reason})") from error


def _has_batch_norm(model: Classifier) -> bool:
    return any(isinstance(module, _BatchNorm) and module.track_running_stats for module in model.modules())
