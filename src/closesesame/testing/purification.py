"""The rules of a purification, and of every purifier it makes."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from closesesame.core.errors import DataError
from closesesame.purification import Purification
from closesesame.purification.files import load_purifier

from . import method
from .contract import check_all, demand, demand_answers, left_alone, quick, refused
from .examples import tones, trained
from .guarded import guard


def what_is_passed_in_is_left_alone_and_the_seed_repeats(purification: Purification) -> None:
    """All that is drawn comes from the seed."""
    purification, clean, clips = quick(purification), tones().validation, tones().test.inputs[:5]
    with left_alone({"clean set": clean, "tensor of clips": clips}):
        first = purification.fit(clean, 5)
        purified = first(clips)
    again = purification.fit(tones().validation, 5)
    demand(torch.equal(again(clips), purified), "the same seed gave two different purifiers; use the seed")


@torch.no_grad()
def each_clip_is_purified_by_itself(purification: Purification) -> None:
    """Within full scale, silence and the loudest clips too."""
    purifier, clips = quick(purification).fit(tones().validation, 0), tones().test.inputs[:5]
    clips[3], clips[4] = 0, torch.sign(clips[4])
    purified = purifier(clips)
    demand(
        purified.isfinite().all() and purified.abs().max() <= 1,
        "purified clips pass full scale or are no numbers",
    )
    for row in range(len(clips)):
        demand(
            torch.allclose(purifier(clips[row : row + 1])[0], purified[row], atol=1e-5),
            "what a clip becomes depends on the others in its batch",
        )


def held_out_examples_are_never_trained_on(purification: Purification) -> None:
    """They are there to choose by."""
    purification, clean = quick(purification), tones().validation
    tune, held_out = clean.hold_out(purification.hold_out, 0)
    method, network = purification.made(clean.sample_rate, clean.input_shape)
    method.learn(network, tune, guard(held_out), 0)


def clean_examples_are_asked_for_if_they_are_needed(purification: Purification) -> None:
    """A method that is `data_free` works with the card of a model alone."""
    said = refused(DataError, quick(purification).fit, None, 0, card=trained().card)
    demand(
        (said is None) == purification.data_free,
        f"data_free is {purification.data_free}, and without clean examples it says: {said}",
    )


def it_stands_in_front_of_a_model(purification: Purification) -> None:
    """Which answers in numbers, and is not changed; read from disk it gives the same."""
    purifier, model, data = quick(purification).fit(tones().validation, 0), trained(), tones().test
    with left_alone({"model": model}):
        demand_answers(purifier.before(model), data, "the model behind the purifier")
    with TemporaryDirectory() as folder:
        purifier.save(Path(folder) / "purifier")
        again = load_purifier(Path(folder) / "purifier")
    demand(
        torch.equal(again(data.inputs[:5]), purifier(data.inputs[:5])),
        "the purifier read from disk gives other numbers",
    )


CHECKS = (
    *method.CHECKS,
    what_is_passed_in_is_left_alone_and_the_seed_repeats,
    each_clip_is_purified_by_itself,
    held_out_examples_are_never_trained_on,
    clean_examples_are_asked_for_if_they_are_needed,
    it_stands_in_front_of_a_model,
)


def check_purification(purification: Purification) -> None:
    """Puts a purification through the contract; takes a few seconds at `quick` settings.

    Raises:
        ContractError: with the rule that it breaks.
    """
    check_all(purification, CHECKS)
