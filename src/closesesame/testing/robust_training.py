"""The rules of a robust training."""

from closesesame.core.errors import DataError
from closesesame.data import Dataset
from closesesame.models import ARCHITECTURES, Classifier
from closesesame.robust_training import RobustTraining

from . import method
from .contract import check_all, demand, demand_answers, left_alone, quick, refused, same
from .examples import SMALL, tones


def _clean(robust: RobustTraining) -> Dataset | None:
    return tones().validation if robust.wants_clean() else None


def what_is_passed_in_is_left_alone_and_the_seed_repeats(robust: RobustTraining) -> None:
    """All that is drawn comes from the seed, and another seed gives another model."""
    robust, untrusted, clean = quick(robust), tones().train, _clean(robust)
    with left_alone({"untrusted set": untrusted} | ({"clean set": clean} if clean else {})):
        first = robust.train(SMALL, untrusted, 5, clean=clean).model
    again, other = (robust.train(SMALL, tones().train, seed, clean=_clean(robust)).model for seed in (5, 6))
    demand(
        same(first.state_dict(), again.state_dict()), "the same seed gave two different models; use the seed"
    )
    demand(
        not same(first.state_dict(), other.state_dict()), "seeds 5 and 6 give the same model; use the seed"
    )


def it_is_watched_epoch_by_epoch(robust: RobustTraining) -> None:
    """The epochs of a stage are counted from 1, stages follow each other, and who watches changes nothing."""
    robust, untrusted, clean = quick(robust), tones().train, _clean(robust)
    seen: list[tuple[str, int]] = []

    def watch(stage: str, epoch: int, model: Classifier) -> None:
        demand_answers(model, tones().validation, f"the model after epoch {epoch} of {stage!r}")
        seen.append((stage, epoch))

    watched = robust.train(SMALL, untrusted, 5, clean=clean, watch=watch).model
    alone = robust.train(SMALL, tones().train, 5, clean=_clean(robust)).model
    demand(same(watched.state_dict(), alone.state_dict()), "who watches the training changes the model")
    demand(bool(seen), "nothing can be watched; call `watch` after each epoch")
    stages = list(dict.fromkeys(stage for stage, _ in seen))
    epochs = [(stage, 1 + number) for stage in stages for number in range(sum(s == stage for s, _ in seen))]
    demand(seen == epochs, f"epochs of stages are told in the order {seen}")


def every_architecture_is_trained(robust: RobustTraining) -> None:
    """From fresh weights to a model of that architecture and of the classes of the untrusted set."""
    robust, data = quick(robust), tones()
    few = data.train.sample(0.2, 0)
    for name, architecture in ARCHITECTURES.items():
        model = robust.train(architecture(**architecture.quick), few, 0, clean=_clean(robust)).model
        demand(
            (model.card.architecture, model.card.classes) == (name, few.classes),
            f"asked for a {name!r} of {few.classes}, got {model.card.architecture!r} of {model.card.classes}",
        )
        demand(not model.training, "the model is left in training mode")
        demand_answers(model, data.validation, f"a {name!r}")


def clean_examples_are_asked_for_if_they_are_needed(robust: RobustTraining) -> None:
    """`wants_clean` says so, which is the class variable `needs_clean` if no setting decides."""
    robust = quick(robust)
    said = refused(DataError, robust.train, SMALL, tones().train, 0)
    demand(
        (said is not None) == robust.wants_clean(),
        f"needs_clean is {robust.wants_clean()}, and without clean examples it says: {said}",
    )


CHECKS = (
    *method.CHECKS,
    what_is_passed_in_is_left_alone_and_the_seed_repeats,
    it_is_watched_epoch_by_epoch,
    every_architecture_is_trained,
    clean_examples_are_asked_for_if_they_are_needed,
)


def check_robust_training(robust: RobustTraining) -> None:
    """Puts a robust training through the contract; takes a few seconds at `quick` settings.

    Raises:
        ContractError: with the rule that it breaks.
    """
    check_all(robust, CHECKS)
