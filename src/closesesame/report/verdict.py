"""What the scores of a model mean, in words: for the tested trigger, and for no other."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from closesesame.core.errors import counted
from closesesame.evaluation import Rate, Scores

FEWEST_CLIPS = 30
"""With fewer triggered clips there is no verdict: of 29 clips even 0 % has an interval up to 12 %."""
LOW_ASR = 0.1
"""ASR under this may be chance, as the literature on backdoors has it."""
NEAR = 0.1
"""RA at most this far below that of the clean reference model is close to it."""
LOSS = 0.02
"""ACC that falls by more than this is a loss."""

Status = Literal["works", "errors", "unclear", "unjudged", "costly", "no_effect", "untested"]
Effect = Literal["works", "fails", "unclear", "unknown"]
"""Whether the trigger brings clips to the target label; unknown where that cannot be judged."""
Robustness = Literal["near", "errors", "unclear", "unjudged"]

HIGH_ASR = f"ASR of {100 * LOW_ASR:.0f} % or more"
REFERENCE = "the clean reference model"
ONE_TRIGGER = "The verdict holds for the tested trigger. Another trigger may still work on the same model."
NO_TRIGGER = "No trigger was tested: this page cannot say whether a model has a backdoor."
NO_REFERENCE = (
    "RA is not compared with that of a clean reference model. To compare, train a model of the same kind on "
    "clean recordings and give it as the reference."
)
_OF_A_MODEL: dict[Status, str] = {
    "works": "The trigger works on this model",
    "errors": "Triggered clips are misclassified",
    "unclear": "The result is unclear",
    "unjudged": "The trigger does not work on this model",
    "costly": "The trigger does not work on this model, but accuracy fell",
    "no_effect": "The trigger does not work on this model",
    "untested": "No trigger was tested",
}
_AFTER_REMOVAL: dict[Status, str] = _OF_A_MODEL | {
    "works": "The backdoor still works",
    "unjudged": "The backdoor no longer works",
    "costly": "Backdoor removed for this trigger, but accuracy fell",
    "no_effect": "Backdoor removed for this trigger",
}


@dataclass(frozen=True)
class Verdict:
    """What is said of one model.

    Attributes:
        status: for colours and for programs.
        title: a few words.
        words: one sentence with the figures, without the model's name.
    """

    status: Status
    title: str
    words: str

    def __str__(self) -> str:
        return f"{self.title}: {self.words}"


def verdict_of(
    scores: Scores, *, classes: int, before: Scores | None = None, purified: bool = False
) -> Verdict:
    """Says what the scores of a model mean. DER is not used: it ignores RA.

    Args:
        scores: of the model.
        classes: how many there are, for the chance level.
        before: scores of the model before removal, if this is a repaired model.
        purified: whether the scores are of a model behind a purifier.
    """
    found = _verdict_of(scores, classes, before)
    if not purified:
        return found
    return replace(found, title=f"Behind the purifier, {found.title[0].lower()}{found.title[1:]}")


def _verdict_of(scores: Scores, classes: int, before: Scores | None) -> Verdict:
    accuracy, lost = _accuracy(scores.acc, before)
    if scores.asr is None or scores.ra is None:
        open_question = "it has a backdoor" if before is None else "the backdoor was removed"
        words = f"{accuracy}; whether {open_question} is unknown"
        return Verdict("untested", _OF_A_MODEL["untested"], f"{words}.")
    robust, wrong = _robustness(scores.acc, scores.ra, scores.ra_reference)
    effect, reached = _effect(scores.asr, classes, may_be_chance=robust == "near")
    worked = False
    if before is not None and before.asr is not None:
        worked = _effect(before.asr, classes)[0] == "works"
        effect, reached = _after(effect, reached, scores.asr, before.asr, worked=worked)
    if effect == "works":
        wrong = _beside(scores.ra, scores.ra_reference)
    elif effect == "unknown":
        wrong = ""
    elif robust == "errors":
        still = "still " if worked else ""
        tail = ", but not the attacker's target label" if effect == "fails" else ""
        wrong += f": the trigger {still}causes errors{tail}"
    words = "; ".join(filter(None, (reached, wrong, accuracy)))
    status = _status(effect, robust, lost=lost)
    return Verdict(status, (_AFTER_REMOVAL if worked else _OF_A_MODEL)[status], f"{words}.")


def _status(effect: Effect, robust: Robustness, *, lost: bool) -> Status:
    if effect == "works":
        return "works"
    if effect == "unknown":
        return "unclear"
    if robust == "errors":
        return "errors"
    if effect == "unclear":
        return "unclear"
    if robust != "near":
        return "unjudged"
    return "costly" if lost else "no_effect"


def _effect(asr: Rate, classes: int, *, may_be_chance: bool = False) -> tuple[Effect, str]:
    """Whether the trigger brings clips to the target label, and from what that follows.

    Args:
        asr: of the model.
        classes: how many there are.
        may_be_chance: whether an ASR at chance level is no sign of a backdoor.
    """
    if asr.of < FEWEST_CLIPS:
        return "unknown", f"{_clips(asr.of)} are too few to judge; at least {FEWEST_CLIPS} are needed"
    chance = 1 / classes
    limit = max(chance, LOW_ASR)
    reached = f"{_percent(asr.value)} of {_clips(asr.of)} get the target label"
    if asr.interval[0] > limit:
        return "works", f"{reached} (chance level with {classes} classes: {_percent(chance)})"
    if asr.value < LOW_ASR or (may_be_chance and asr.value <= chance):
        return "fails", reached
    return "unclear", (
        f"{reached}: the trigger does not work if it is under {_percent(LOW_ASR)}, and works if the whole "
        f"interval is above {_percent(limit)}"
    )


def _after(effect: Effect, reached: str, asr: Rate, before: Rate, *, worked: bool) -> tuple[Effect, str]:
    """The same for a repaired model: only a trigger that worked before can show what the removal did."""
    if effect == "unknown":
        return effect, reached
    if not worked and effect != "works":
        return "unknown", (
            f"the trigger did not clearly work before removal ({_percent(before.value)} of "
            f"{_clips(before.of)}), so it cannot show what the removal did"
        )
    if effect == "works":
        return effect, f"{reached}; before removal: {_percent(before.value)}"
    fell = (
        f"{_percent(asr.value)} of {_clips(asr.of)} get the target label "
        f"(before removal: {_percent(before.value)})"
    )
    if effect == "unclear":
        return effect, f"{fell}, too many to call the backdoor removed and too few to call it working"
    if before.interval[0] <= asr.interval[1]:
        return "unclear", f"{fell}, and the intervals before and after removal overlap"
    return effect, fell


def _robustness(acc: Rate, ra: Rate, reference: Rate | None) -> tuple[Robustness, str]:
    """How right the model is on triggered clips, against a clean reference model if there is one."""
    wrong = f"the model misclassifies {_percent(1 - ra.value)} of triggered clips"
    if reference is None or not reference.of:
        if acc.value - ra.value <= NEAR:
            return "near", f"RA {_percent(ra.value)} is close to ACC"
        return "unjudged", f"{wrong}, and without a clean reference model the cause is unknown"
    if reference.value - ra.value <= NEAR:
        return "near", _beside(ra, reference)
    wrong += f", {REFERENCE} {_percent(1 - reference.value)}"
    if ra.interval[1] < reference.interval[0]:
        return "errors", wrong
    return "unclear", f"{wrong}, but their intervals overlap"


def _beside(ra: Rate, reference: Rate | None) -> str:
    if reference is None or not reference.of:
        return f"RA {_percent(ra.value)}"
    return f"RA {_percent(ra.value)}, that of {REFERENCE} {_percent(reference.value)}"


def _accuracy(acc: Rate, before: Scores | None) -> tuple[str, bool]:
    """ACC in words, and whether the removal cost more of it than `LOSS`."""
    now = f"ACC {_percent(acc.value)}"
    if before is None:
        return now, False
    fall = before.acc.value - acc.value
    if not fall > LOSS:
        return f"{now} (before removal: {_percent(before.acc.value)})", False
    overlap = before.acc.interval[0] <= acc.interval[1]
    sure = "the intervals overlap, so this may be chance" if overlap else "the intervals do not overlap"
    return f"ACC fell by {100 * fall:.1f} points to {_percent(acc.value)} ({sure})", True


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The rates of one model of a grid; each 0 to 1, None where it is not known.

    Attributes:
        asr: attack success rate.
        ra: robust accuracy.
        ra_reference: that of the clean reference model.
        acc_fall: ACC before the method less ACC after it.
    """

    asr: float
    ra: float | None
    ra_reference: float | None
    acc_fall: float | None


def tally(standings: Iterable[Standing]) -> str:
    """Says of many models together what `verdict_of` says of one."""
    found = tuple(standings)
    if not found:
        return "no model was measured with a trigger."
    low = [one for one in found if one.asr < LOW_ASR]
    known = [(one.ra, one.ra_reference) for one in low]
    gaps = [reference - ra for ra, reference in known if ra is not None and reference is not None]
    near = sum(gap <= NEAR for gap in gaps)
    under, points = f"ASR under {100 * LOW_ASR:.0f} %", f"{100 * NEAR:.0f} points"
    said = [
        f"of {counted(len(found), 'model')}, {_have(near)} {under} and RA within {points} of {REFERENCE}."
    ]
    if near < len(gaps):
        said.append(
            f"{_have(len(gaps) - near)} {under} but lower RA: the trigger still causes errors, but not the "
            "attacker's target label."
        )
    if len(gaps) < len(low):
        said.append(f"{_have(len(low) - len(gaps))} {under}, and without a reference RA cannot be judged.")
    if len(low) < len(found):
        said.append(f"{_have(len(found) - len(low))} {HIGH_ASR}.")
    lost = sum(one.acc_fall is not None and one.acc_fall > LOSS for one in found)
    if lost:
        said.append(f"ACC fell by more than {100 * LOSS:.0f} points in {lost:,}.")
    return " ".join(said)


def _have(count: int) -> str:
    return f"{count:,} {'has' if count == 1 else 'have'}" if count else "none has"


def _clips(count: int) -> str:
    return counted(count, "triggered clip")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
