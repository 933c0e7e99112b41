"""The rules of an attack, and of every trigger it makes."""

import atexit
import json
import os
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from closesesame.attacks import Attack
from closesesame.attacks.files import load_trigger
from closesesame.core.errors import ModelError
from closesesame.data import Dataset

from . import method
from .contract import check_all, demand, left_alone, quick, refused, same
from .examples import copied, examples_for

RATES = (0.0, 0.01, 0.1)
LENGTHS = (64, 1000, 4001, 16_000)
"""Of clips, in samples at 8,000 Hz."""
STAMP = """
import json, os, sys
from importlib import import_module
from closesesame import load_trigger
from safetensors.torch import load_file, save_file
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(2, 1)
        folder, module, sys.path[:] = json.loads(line)
        import_module(module)
        clips = load_file(folder + "/clips")["clips"]
        save_file({"clips": load_trigger(folder + "/trigger").stamp(clips)}, folder + "/out")
        sys.stdout.flush()
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""
"""What another process does with triggers that were saved.

A fork of it reads each, so that the code of an attack is the one on disk. What an attack prints goes to
standard error, so that it is not taken for the answer.
"""


def what_is_passed_in_is_left_alone(attack: Attack) -> None:
    """Poisoning makes a new training set, stamping new clips, and both draw from the seed."""
    attack, train = quick(attack), copied(examples_for(attack)).train
    with left_alone({"training set": train}):
        poisoned = attack.poison(train, 0)
    clips = examples_for(attack).test.inputs[:5]
    with left_alone({"tensor of clips": clips}):
        poisoned.trigger.stamp(clips)


def each_clip_is_stamped_by_itself(attack: Attack) -> None:
    """Whatever is beside it in a batch; every clip changes, and stays within the bounds of its domain."""
    trigger, clips = (
        quick(attack).trigger(examples_for(attack).train, 0),
        examples_for(attack).test.inputs[:5],
    )
    stamped = trigger.stamp(clips)
    demand(
        stamped.shape == clips.shape and stamped.dtype == torch.float32,
        "stamped clips must be float32 of the shape that they had",
    )
    domain = trigger.signal.domain
    demand(
        domain.low <= stamped.min() and stamped.max() <= domain.high,
        f"stamped clips are not within {domain.low:g} and {domain.high:g}",
    )
    demand(
        (stamped - clips).abs().flatten(1).amax(1).min() > 1e-3,
        "a clip is stamped and hardly changes: by less than 0.001 of full scale anywhere",
    )
    for row in range(len(clips)):
        alone = trigger.stamp(clips[row : row + 1])[0]
        demand(
            torch.allclose(alone, stamped[row], atol=1e-6),
            "what a clip becomes depends on the others in its batch",
        )


def clips_of_any_length_silence_and_full_scale_are_stamped(attack: Attack) -> None:
    """A trigger is played to whatever is heard; pictures keep their size, and may be black or glaring."""
    data = examples_for(attack)
    trigger = quick(attack).trigger(data.train, 0)
    for length in LENGTHS if data.train.sample_rate else (None,):
        shape = data.train.input_shape if length is None else (length,)
        signs = torch.sign(torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)))
        size = "" if length is None else f" of {length} samples"
        for name, clips in (
            ("silent", torch.zeros(2, *shape)),
            ("full-scale", signs.clamp(data.train.domain.low, data.train.domain.high)),
        ):
            said = refused(ModelError, trigger.stamp, clips)
            demand(said is None, f"{name} clips{size} cannot be stamped: {said}")


def the_poisoning_rate_counts_all_training_clips(attack: Attack) -> None:
    """So many are poisoned and no more; all others stay, but for cover clips, which keep their label."""
    for rate in RATES:
        train = examples_for(attack).train
        poisoned = (made := quick(attack, rate=rate, target="high")).poison(train, 3)
        _demand_counts(made, train, poisoned.poisoned_mask, poisoned.cover_mask)
        data, mask, covers = poisoned.dataset, poisoned.poisoned_mask, poisoned.cover_mask
        untouched = ~mask & ~covers
        demand(
            torch.equal(data.inputs[untouched], train.inputs[untouched]),
            "a clip that is neither poisoned nor a cover clip was changed",
        )
        demand(
            torch.equal(data.labels[~mask], train.labels[~mask]),
            "a clip that is not poisoned got another label",
        )
        demand((data.labels[mask] == 2).all(), "a poisoned clip does not have the target label")
        was_target, clean = train.labels[mask] == 2, made.label_mode == "clean_label"
        demand(
            was_target.all() if clean else not was_target.any(),
            f"poisoned clips were {'not all' if clean else 'partly'} of the target class before",
        )
        changed = (data.inputs[~untouched] - train.inputs[~untouched]).abs().flatten(1).amax(1)
        demand((changed > 1e-4).all(), "a poisoned clip or a cover clip is the clean one still")
        share = int(mask.sum()) / (80 if clean else 80 + int(mask.sum()))
        demand(
            abs(poisoned.share_of_target - share) < 1e-9,
            f"{share:.3f} of the target class are poisoned, and share_of_target says "
            f"{poisoned.share_of_target:.3f}",
        )


def _demand_counts(attack: Attack, train: Dataset, mask: torch.Tensor, covers: torch.Tensor) -> None:
    wanted = round(attack.rate * len(train))
    demand(
        int(mask.sum()) == wanted,
        f"at rate {attack.rate} {wanted} of {len(train)} clips are to be poisoned, and {int(mask.sum())} are",
    )
    cover = round(attack.cover_ratio * wanted)
    demand(
        int(covers.sum()) == cover and not (mask & covers).any(),
        f"there must be {cover} cover clips, none of them poisoned; there are {int(covers.sum())}",
    )


def the_seed_repeats(attack: Attack) -> None:
    """The same clips become the same; another seed poisons others."""
    first, again, other = (quick(attack).poison(examples_for(attack).train, seed) for seed in (0, 0, 1))
    demand(
        torch.equal(first.poisoned_mask, again.poisoned_mask)
        and torch.equal(first.dataset.inputs[:], again.dataset.inputs[:]),
        "the same seed gave two different poisoned sets; draw from closesesame.core.seeding.generator(seed)",
    )
    demand(
        not torch.equal(first.poisoned_mask, other.poisoned_mask),
        "seeds 0 and 1 poison the same clips; use the seed",
    )


def a_trigger_does_not_depend_on_the_poisoning_rate(attack: Attack) -> None:
    """It is made once for all rates of a grid."""
    few, many = (quick(attack, rate=rate).trigger(examples_for(attack).train, 0) for rate in (0.01, 0.2))
    demand(same(few.state, many.state), "the trigger is another one at another poisoning rate")


def a_saved_trigger_stamps_the_same_samples_in_a_new_process(attack: Attack) -> None:
    """Settings and state say all of it."""
    kind = type(attack)
    demand(
        "<locals>" not in kind.__qualname__, f"{kind.__name__} must stand at the top of a module to be saved"
    )
    trigger, clips = (
        quick(attack).trigger(examples_for(attack).train, 0),
        examples_for(attack).test.inputs[:3],
    )
    with TemporaryDirectory() as name:
        folder = Path(name)
        trigger.save(folder / "trigger")
        again = load_trigger(folder / "trigger")
        demand(
            (again.attack, again.target, again.classes) == (trigger.attack, trigger.target, trigger.classes),
            "the trigger read from disk has another attack, target label or classes",
        )
        out = again.stamp(clips)
        if kind.__module__ != "__main__":  # what was typed into a session has no file to read it from
            save_file({"clips": clips}, folder / "clips")
            demand(_stamped_elsewhere(name, kind.__module__), "another process cannot stamp with the trigger")
            out = load_file(folder / "out")["clips"]
    demand(torch.equal(out, trigger.stamp(clips)), "the trigger read from disk stamps other samples")


@cache
def _another_process() -> "subprocess.Popen[str]":
    """A process that stamps until this one ends: one for all attacks, since its start takes seconds."""
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", STAMP], env=paths, stdin=pipe, stdout=pipe, text=True)
    atexit.register(process.communicate)  # without more lines it ends
    return process


def _stamped_elsewhere(folder: str, module: str) -> bool:
    """Has another process stamp with a saved trigger; if it cannot, it says why on standard error."""
    for _ in range(2):  # the process may have been killed since the last attack; then a new one is asked
        process = _another_process()
        to, back = process.stdin, process.stdout
        assert to is not None
        assert back is not None
        with suppress(OSError):
            to.write(json.dumps([folder, module, sys.path]) + "\n")
            to.flush()
            if answer := back.readline():
                return int(answer) == 0
        process.kill()
        process.wait()
        _another_process.cache_clear()
    return False


CHECKS = (
    *method.CHECKS,
    what_is_passed_in_is_left_alone,
    each_clip_is_stamped_by_itself,
    clips_of_any_length_silence_and_full_scale_are_stamped,
    the_poisoning_rate_counts_all_training_clips,
    the_seed_repeats,
    a_trigger_does_not_depend_on_the_poisoning_rate,
    a_saved_trigger_stamps_the_same_samples_in_a_new_process,
)


def check_attack(attack: Attack) -> None:
    """Puts an attack through the contract, which takes about five seconds.

    The first attack takes five more: they start the process that reads the saved triggers of all attacks.

    Raises:
        ContractError: with the rule that it breaks.
    """
    check_all(attack, CHECKS)
