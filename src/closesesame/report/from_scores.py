"""From suspicion scores to a page: clips to listen to, and what the suspicious ones have in common."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from closesesame.core.progress import Track
from closesesame.core.types import Mask
from closesesame.data import Dataset
from closesesame.detection import Suspicion
from closesesame.detection.decisions import Decisions
from closesesame.detection.flagging import Flagging

from .charts.spectrograms import RANGE_DB, levels
from .pages.screening import Difference, Heard, Pair, Property, Screening, Share

SHOWN = 50
"""Suspicious clips on the page, if their sounds are short."""
MOST_SOUND_BYTES = 2**25
"""Of all sounds of a page; long clips are fewer."""
MOST_ROWS = 10
"""Classes and speakers in a table."""
MOST_CLASSES, FEWEST_AVERAGED, MOST_AVERAGED = 3, 10, 100
"""Classes whose mean spectra are compared, and clips in each mean; the first class may have fewer."""
SILENCE_DB = -120.0
CHUNK = 256

Numbers = Float64[Tensor, " n"]


def screening_of(
    *,
    data: Dataset,
    suspicion: Suspicion,
    flagging: Flagging,
    title: str,
    clean: Numbers | None = None,
    decisions: Decisions | None = None,
    lengths_s: Mapping[str, float] | None = None,
    facts: Mapping[str, Any] | None = None,
    command: str = "",
) -> Screening:
    """Picks clips and compares the suspicious ones with the others of their classes.

    Args:
        data: speech that was screened.
        suspicion: its scores.
        flagging: the threshold. If it flags nothing, the most suspicious clips are compared.
        title: of the page.
        clean: scores of clean clips that the threshold rests on.
        decisions: made before.
        lengths_s: of the recordings by id, where they are known: clips are cut or padded to one length.
        facts: how it was made, by name.
        command: that made the page, as it was typed.
    """
    decided = decisions or Decisions()
    order = suspicion.scores.argsort(descending=True, stable=True)
    flagged, loudness = flagging.flagged(suspicion.scores), loudness_of(data)
    shown = order[: _shown(data)]
    group, name = flagged, "flagged"
    if not flagged.any():
        group, name = torch.zeros_like(flagged), "most suspicious"
        group[shown] = True
    known = lengths_s or {}
    lengths = torch.tensor([known.get(one, float("nan")) for one in data.ids], dtype=torch.float64)
    heard = _Clips(data, suspicion, flagged, loudness, known)
    return Screening(
        title=title,
        sample_rate=data.sample_rate or 1,
        scores=suspicion.scores,
        flagging=flagging,
        clean=clean,
        pairs=tuple(heard.pairs(order, shown, decided)),
        group=name,
        alike=tuple(_alike(data, group, name)),
        classes=_shares([data.classes[label] for label in data.labels.tolist()], group),
        speakers=_shares(data.speakers or (), group),
        properties=_properties(data, group, {"length, s": lengths, "level, dB": loudness}),
        differences=tuple(_differences(data, group, order)),
        decisions=decided,
        facts=facts or {},
        command=command,
    )


def loudness_of(data: Dataset) -> Numbers:
    """The root mean square of each clip, dB of full scale."""
    # One tensor: small ones, each kept where a batch was freed, would make the next batch take new memory.
    power, chunks = torch.zeros(len(data), dtype=torch.float64), -(-len(data) // CHUNK)
    for number, (inputs, _) in enumerate(Track(data.batches(CHUNK), "measuring levels", chunks)):
        rows = slice(number * CHUNK, number * CHUNK + len(inputs))
        power[rows] = inputs.double().square().flatten(1).mean(1)
    return (10 * power.clamp(min=1e-30).log10()).clamp(min=SILENCE_DB)


def _shown(data: Dataset) -> int:
    """How many suspicious clips, each with an ordinary one, fit on the page."""
    size = 2 * 2 * data.input_shape[-1]
    return max(1, min(SHOWN, MOST_SOUND_BYTES // size))


class _Clips:
    """Clips with all that is known of them."""

    def __init__(
        self,
        data: Dataset,
        suspicion: Suspicion,
        flagged: Mask,
        loudness: Numbers,
        lengths_s: Mapping[str, float],
    ) -> None:
        self.data, self.scores, self.flagged = data, suspicion.scores, flagged
        self.loudness, self.lengths_s = loudness, lengths_s

    def heard(self, row: int) -> Heard:
        data = self.data
        return Heard(
            id=data.ids[row],
            label=data.classes[int(data.labels[row])],
            score=float(self.scores[row]),
            flagged=bool(self.flagged[row]),
            sound=data.inputs[row : row + 1][0],
            loudness_dbfs=float(self.loudness[row]),
            speaker=None if data.speakers is None else data.speakers[row],
            length_s=self.lengths_s.get(data.ids[row]),
        )

    def pairs(self, order: Tensor, shown: Tensor, decided: Decisions) -> list[Pair]:
        """Each shown clip beside the clip of its class with the lowest score that no other stands beside.

        If a class has too few, its ordinary clips stand beside several.
        """
        rest = order[len(shown) :].flip(0)
        ordinary = {
            label: rest[self.data.labels[rest] == label].tolist()
            for label in self.data.labels[shown].unique().tolist()
        }
        used, found, marks = Counter[int](), list[Pair](), decided.by_id
        for row in shown.tolist():
            label = int(self.data.labels[row])
            mates = ordinary[label]
            mate = mates[used[label] % len(mates)] if mates else None
            used[label] += 1
            found.append(
                Pair(
                    suspicious=self.heard(row),
                    ordinary=None if mate is None else self.heard(mate),
                    decision=marks.get(self.data.ids[row]),
                )
            )
        return found


def _shares(names: Sequence[str], group: Mask) -> tuple[Share, ...]:
    """The names with the most clips of the group."""
    clips = Counter(names)
    suspicious = Counter(name for name, inside in zip(names, group.tolist(), strict=bool(names)) if inside)
    return tuple(
        Share(name=name, suspicious=count, clips=clips[name])
        for name, count in suspicious.most_common(MOST_ROWS)
    )


def _alike(data: Dataset, group: Mask, name: str) -> list[str]:
    """The class and the speaker that most of the group have, beside their share of all clips."""
    kinds = {"label": [data.classes[label] for label in data.labels.tolist()], "speaker": data.speakers or ()}
    said, count = [], int(group.sum())
    for kind, names in kinds.items():
        shares = _shares(names, group)
        if not shares:
            continue
        first = shares[0]
        inside, everywhere = first.suspicious / count, first.clips / len(data)
        said.append(
            f"The most frequent {kind} of the {name} clips is \N{LEFT DOUBLE QUOTATION MARK}{first.name}"
            f"\N{RIGHT DOUBLE QUOTATION MARK}: {100 * inside:.0f} % of them have it, and "
            f"{100 * everywhere:.0f} % of all clips."
        )
    return said


def _properties(data: Dataset, group: Mask, known: Mapping[str, Numbers]) -> tuple[Property, ...]:
    """Numbers of the group beside those of the other clips of its classes."""
    others = ~group & torch.isin(data.labels, data.labels[group].unique())
    found = []
    for name, values in known.items():
        mine, theirs = (values[rows & values.isfinite()] for rows in (group, others))
        if len(mine) and len(theirs):
            found.append(Property(name=name, digits=2, suspicious=_range(mine), others=_range(theirs)))
    return tuple(found)


def _range(values: Numbers) -> tuple[float, float, float]:
    ordered = values.sort().values  # `quantile` refuses more than 16 million values
    low, middle, high = (float(ordered[round(share * (len(ordered) - 1))]) for share in (0.1, 0.5, 0.9))
    return low, middle, high


def _differences(data: Dataset, group: Mask, order: Tensor) -> list[Difference]:
    """Mean spectra of the classes with the most clips of the group, against the lowest scores of each."""
    counts = torch.bincount(data.labels[group], minlength=len(data.classes))
    found: list[Difference] = []
    for label in counts.argsort(descending=True, stable=True)[:MOST_CLASSES].tolist():
        own = data.labels[order] == label
        suspicious = order[own & group[order]][:MOST_AVERAGED]
        ordinary = order[own & ~group[order]].flip(0)[:MOST_AVERAGED]
        if not len(suspicious) or not len(ordinary) or (found and len(suspicious) < FEWEST_AVERAGED):
            continue
        (mine, reach), (theirs, _) = (_mean_levels(data, rows) for rows in (suspicious, ordinary))
        found.append(
            Difference(
                label=data.classes[label],
                suspicious=len(suspicious),
                ordinary=len(ordinary),
                louder=mine - theirs,
                reach=reach,
            )
        )
    return found


def _mean_levels(data: Dataset, rows: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """The mean spectrogram of some clips in dB, each from its loudest level down to `RANGE_DB` below."""
    total, reach = torch.zeros(()), (0.0, 0.0)
    for row in Track(rows.tolist(), "comparing spectra", len(rows)):
        values, reach = levels(data.inputs[row : row + 1][0], data.sample_rate or 1)
        total = total + values.clamp(min=float(values.max()) - RANGE_DB)
    return total / len(rows), reach
