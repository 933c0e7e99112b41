"""What a person decided of single clips: a list that the page of a screening writes and a command reads."""

from pathlib import Path
from typing import Literal

from pydantic import StrictStr

from closesesame.core.errors import ClosesesameError, DataError, counted, listed
from closesesame.core.json_files import read_json
from closesesame.core.settings import Settings
from closesesame.core.types import Mask

MOST_BYTES = 2**28
"""Of a file of decisions: a million clips with long names."""

Decision = Literal["kept", "dropped"]


class Decisions(Settings):
    """Clips by id; those in neither list are undecided."""

    kept: tuple[StrictStr, ...] = ()
    dropped: tuple[StrictStr, ...] = ()

    @property
    def by_id(self) -> dict[str, Decision]:
        """What was decided of each."""
        kept: dict[str, Decision] = dict.fromkeys(self.kept, "kept")
        return kept | dict.fromkeys(self.dropped, "dropped")

    def applied(self, ids: tuple[str, ...], flagged: Mask) -> Mask:
        """Which examples (n,) are left out: those dropped, and those flagged and not kept."""
        decided, out = self.by_id, flagged.clone()
        for row, name in enumerate(ids):
            if name in decided:
                out[row] = decided[name] == "dropped"
        return out


def load_decisions(path: Path, ids: tuple[str, ...]) -> Decisions:
    """Reads a list of decisions on these clips.

    Raises:
        DataError: if it cannot be used, names a clip that is not among these, or keeps and drops one.
    """
    if not path.exists():
        raise DataError(f"there is no {path}; the page of a screening writes such a list of decisions")
    try:
        found = Decisions(**read_json(path, MOST_BYTES))
    except ClosesesameError as error:
        raise DataError(
            f"{path} is no list of decisions: {error}; the page of a screening writes one"
        ) from None
    both = sorted({*found.kept} & {*found.dropped})
    if both:
        raise DataError(f"{path} keeps and drops {listed(both)}; take it out of one of the lists")
    unknown = sorted(found.by_id.keys() - set(ids))
    if unknown:
        raise DataError(
            f"{path} decides on {counted(len(unknown), 'clip')} outside of what is screened "
            f"({listed(unknown)}); it is of another data set or part: name the part "
            "with --part, or take them out of the list"
        )
    return found
