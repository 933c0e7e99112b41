"""The rule that splits a data set, chosen by what is there."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from closesesame.core.bounds import SplitRule, Task
from closesesame.core.errors import DataError

from .dataset import Splits
from .lists import LISTS
from .recordings import Listing, Recording, knows_speakers
from .rules import FEWEST_TAKES, RULES, Asked, name_nameless

FEWEST_SPEAKERS = 10
"""With this many speakers or more, `auto` puts no speaker into two parts."""


@dataclass(frozen=True)
class Partition:
    """The part of each recording, the rule that chose it, why this rule, and sentences on surprises."""

    parts: tuple[int, ...]
    rule: SplitRule
    why: str
    surprises: tuple[str, ...] = ()


def partition(
    listing: Listing, task: Task, split: SplitRule, seed: int, *, may_be_empty: bool = False
) -> Partition:
    """Chooses a rule, if it is `auto`, and applies it.

    Raises:
        DataError: if the rule does not fit the data, or leaves a part empty that may not be.
    """
    rule, why, surprises = _choose(listing, task) if split == "auto" else (split, "it was asked for", [])
    if task == "speaker" and rule in {"lists", "speakers"}:
        raise DataError(f"split {rule!r} keeps speakers apart, so speakers cannot be the label; use 'takes'")
    parts, more = RULES[rule](Asked(listing, task, seed, split == "auto"))
    for number, name in enumerate(Splits._fields):
        if number not in parts and not may_be_empty:
            raise DataError(
                f"split {rule!r} leaves the {name} part of {listing.name} empty; use another rule, add "
                "recordings, or take all as one part where a command takes one (--part all, and of clean "
                "recordings --clean-part all)"
            )
    return Partition(tuple(parts), rule, why, (*surprises, *more))


def _choose(listing: Listing, task: Task) -> tuple[SplitRule, str, list[str]]:
    recordings = listing.recordings
    if task == "speaker":
        return "takes", "the label is the speaker", []
    if all(recording.part is not None for recording in recordings):
        if listing.layout == "manifest":
            return "manifest", "the table names the parts", []
        return "folders", "folders name the parts", []
    lists = [name for name in LISTS.values() if (listing.folder / name).is_file()]
    if lists:
        return "lists", f"{' and '.join(lists)} are there" if len(lists) > 1 else f"{lists[0]} is there", []
    return _by_names(recordings)


def _by_names(recordings: Sequence[Recording]) -> tuple[SplitRule, str, list[str]]:
    """The rule that the names of files allow."""
    known = [recording for recording in recordings if recording.speaker is not None]
    if not known:
        return "random", "no file says who speaks", []
    if not knows_speakers(recordings):
        said = name_nameless(recordings, "so the split is random and speakers are in several parts")
        return "random", "most files do not say who speaks", said
    speakers = {recording.speaker for recording in known}
    takes = Counter((recording.word, recording.speaker) for recording in known)
    heard = Counter(word for word, _ in takes)
    few = len(speakers) < FEWEST_SPEAKERS or 2 * sum(count > 1 for count in heard.values()) < len(heard)
    if few and max(takes.values()) < FEWEST_TAKES:
        return "random", "speakers and their takes are too few to split by them", []
    if len(speakers) < FEWEST_SPEAKERS:
        return "takes", f"{len(speakers):,} speakers are too few to keep them apart", []
    if few:
        return "takes", "most classes have one speaker", []
    return "speakers", f"{len(speakers):,} speakers are known", []
