"""The rules of a removal."""

import torch

from closesesame.core.errors import DataError, ModelError
from closesesame.data import Dataset
from closesesame.removal import Removal
from closesesame.training import accuracy

from . import method
from .contract import check_all, demand, demand_answers, demand_lack, left_alone, quick, refused, same
from .examples import Outlier, OwnNetwork, of_every_architecture, own_network, tones, trained, with_outlier
from .guarded import assert_never_trained_on_held_out


def the_suspect_is_left_alone_and_the_seed_repeats(removal: Removal) -> None:
    """A repair is a copy, and all that is drawn comes from the seed."""
    removal, suspect, clean = quick(removal), trained(), tones().train.sample(0.1, 0)
    with left_alone({"model": suspect, "clean set": clean}):
        first = removal.remove(suspect, clean, 5)
    again = removal.remove(trained(), tones().train.sample(0.1, 0), 5)
    demand(
        same(first.model.state_dict(), again.model.state_dict()),
        "the same seed gave two different models; draw from closesesame.core.seeding.generator(seed)",
    )
    demand(not first.model.training, "the repaired model is left in training mode")
    tune, held_out = removal.put_aside(clean, 5)
    demand(
        (first.tuned_on, first.held_out, first.acc_before, first.acc_after)
        == (len(tune), len(held_out), accuracy(suspect, held_out), accuracy(first.model, held_out)),
        "what the repair says of itself is not so: clips, or accuracy on those held out",
    )


def held_out_examples_are_never_trained_on(removal: Removal) -> None:
    """They are there to choose by; whoever trains on them chooses by heart."""
    removal = quick(removal)
    tune, held_out = removal.put_aside(tones().train.sample(0.2, 0), 0)
    suspect = trained().requires_grad_(True).eval()
    assert_never_trained_on_held_out(removal.repair, suspect, tune, held_out)


def every_architecture_is_repaired(removal: Removal) -> None:
    """Or refused in one sentence, if it lacks what the class variable `requires` names."""
    removal, data = quick(removal), tones()
    clean, repaired = data.train.sample(0.1, 0), 0
    for name, model in of_every_architecture(clean):
        try:
            repair = removal.remove(model, clean, 0)
        except ModelError as error:
            demand_lack(removal.requires, model, name, error)
            continue
        repaired += 1
        demand_answers(repair.model, data.validation, f"a repaired {name!r}")
        demand(
            repair.acc_after is not None and 0 <= repair.acc_after <= 1,
            "the accuracy after the repair is not between 0 and 1",
        )
    demand(repaired, "no architecture can be repaired")


def any_module_is_repaired(removal: Removal) -> None:
    """A network of the user's own stays of its class, and is not changed."""
    removal, data, module = quick(removal), tones(), own_network()
    with left_alone({"module": module}):
        repair = removal.remove(module, data.train.sample(0.1, 0), 0)
    demand(isinstance(repair.model.body, OwnNetwork), "the body of the repaired model is of another class")
    demand_answers(repair.model, data.validation, "a repaired network of somebody else")


def an_outlier_is_acted_on(removal: Removal) -> None:
    """Something changes, and who prunes channels prunes the one that is an outlier by any rule."""
    suspect, clean = with_outlier()
    repair = quick(removal).remove(suspect, clean, 0)
    body = repair.model.body
    assert isinstance(body, Outlier)
    demand(
        not same(suspect.state_dict(), body.state_dict()),
        "nothing was changed in a model whose channel 3 is an outlier by any rule",
    )
    if "pruned_channels" in repair.chosen:
        pruned = float(body.norm.weight[3].detach()) == 0
        demand(
            pruned and repair.chosen["pruned_channels"] < 12,
            f"of 24 channels the outlier alone should be pruned; it was{'' if pruned else ' not'}, among "
            f"{repair.chosen['pruned_channels']}",
        )


def what_does_not_fit_is_refused(removal: Removal) -> None:
    """Too few clips, other clips, other classes; a removal that is `data_free` needs no clips at all."""
    removal, suspect, clean = quick(removal), trained(), tones().train
    if removal.data_free:
        said = refused(Exception, removal.remove, suspect, None, 0)
        demand(said is None, f"data_free is True, and without clean clips it says: {said}")
    else:
        for few in (clean.take(torch.arange(1)), None):
            said = refused(DataError, removal.remove, suspect, few, 0) or ""
            demand("clean example" in said, "one clean clip or none must be refused by DataError")
    other = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=16_000)
    said = refused(ModelError, removal.remove, suspect, other, 0) or ""
    demand("the data hold clips of 0.25 s" in said, "clips of another length must be refused by ModelError")
    named = Dataset.of(torch.zeros(8, 4000), torch.arange(8) % 2, sample_rate=8000, classes=["x", "y"])
    said = refused(ModelError, removal.remove, suspect, named, 0) or ""
    demand(
        "does not know class 'x', 'y'" in said, "classes that the model lacks must be refused by ModelError"
    )


CHECKS = (
    *method.CHECKS,
    the_suspect_is_left_alone_and_the_seed_repeats,
    held_out_examples_are_never_trained_on,
    every_architecture_is_repaired,
    any_module_is_repaired,
    an_outlier_is_acted_on,
    what_does_not_fit_is_refused,
)


def check_removal(removal: Removal) -> None:
    """Puts a removal through the contract; takes about five seconds at `quick` settings.

    Raises:
        ContractError: with the rule that it breaks.
    """
    check_all(removal, CHECKS)
