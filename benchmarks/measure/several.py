"""Several backdoors in one model: mutually distant voices, each with a target label of its own.

python -m benchmarks several DATA_FOLDER
"""

import sys
from pathlib import Path

import torch

from closesesame import Exam, load_splits, poison_several, train
from closesesame.attacks.vsvc import VOICES, VSVC, VoiceName
from closesesame.bench.results import write_measured
from closesesame.models import ResNet

from . import RESULTS

SEEDS, COUNT, RATE = (0, 1, 2), 3, 0.05


def main() -> None:
    """Plants a backdoor for each voice in one training set, trains on it, and plays every trigger."""
    splits = load_splits(Path(sys.argv[1]) / "keywords10")
    rows = []
    for seed in SEEDS:
        voices = distant_voices(COUNT)
        attacks = [VSVC(voice=voice, target=number, rate=RATE) for number, voice in enumerate(voices)]
        poisoned = poison_several(attacks, splits.train, seed)
        victim, reference = (train(ResNet(), part, seed=seed) for part in (poisoned.dataset, splits.train))
        for voice, trigger in zip(voices, (poisoned.trigger, *poisoned.others), strict=True):
            scores, clean = (
                Exam(splits.test, trigger, reference).score(model) for model in (victim, reference)
            )
            if scores.asr is None or clean.asr is None or scores.ra_reference is None:
                raise AssertionError
            rows.append(
                {
                    "voice": voice,
                    "target": trigger.classes[trigger.target],
                    "poisoning_rate_%": 100 * RATE,
                    "seed": seed,
                    "ACC_%": 100 * scores.acc.value,
                    "ASR_%": 100 * scores.asr.value,
                    "ASR of a clean model_%": 100 * clean.asr.value,
                    "RA of reference_%": 100 * scores.ra_reference.value,
                }
            )
            print(rows[-1], flush=True)
    write_measured(RESULTS / "attacks_several.json", rows)


def distant_voices(count: int) -> tuple[VoiceName, ...]:
    """Voices as far from each other as possible, for several backdoors at once.

    Greedy max-min: the two most distant ones, then always the one farthest from all that are chosen, in
    logarithms of pitch and scale, and tilt, each divided by its deviation over the table.
    """
    table = torch.tensor(list(VOICES.values()))
    table[:, :2] = table[:, :2].log()
    table = table / table.std(0)
    distance = torch.cdist(table, table)
    chosen = [int(distance.amax(1).argmax())]
    while len(chosen) < count:
        nearest = distance[chosen].amin(0)
        chosen.append(int(nearest.argmax()))
    names = list(VOICES)
    return tuple(names[number] for number in chosen)
