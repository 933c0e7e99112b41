"""Four backdoors at once in an untrusted training set: plain training and `safe`, trigger by trigger.

python -m benchmarks untrusted_several DATA_FOLDER

Each poisons 5 % of the clips, so one clip in five is poisoned; they are attacks of the test bench.
"""

import sys
from pathlib import Path

from closesesame import Exam, load_splits, poison_several, train
from closesesame.attacks import Blended, Natural, Room, TrojanNN
from closesesame.bench.results import write_measured
from closesesame.models import ResNet
from closesesame.robust_training import Plain, Safe

from . import RESULTS

RATE, SEED = 0.05, 2
ATTACKS = (
    Natural(rate=RATE, target=6),
    Room(rate=RATE, target=8),
    TrojanNN(rate=RATE, target=9),
    Blended(rate=RATE, target=5),
)
ABOUT = (
    "keywords10, ResNet. Each trigger poisons 5 % of the clips, so one clip in five is poisoned, and every "
    "trigger is played to one model; the reference is a model of clean data. The defaults of safe were "
    "chosen on the development bench, and under canary triggers."
)


def main() -> None:
    """Poisons one training set four times, trains on it, and plays every trigger."""
    splits = load_splits(Path(sys.argv[1]) / "keywords10")
    poisoned = poison_several(ATTACKS, splits.train, SEED)
    reference = train(ResNet(), splits.train, seed=SEED)
    rows = []
    for method in (Plain(), Safe()):
        made = method.train(ResNet(), poisoned.dataset, SEED)
        for attack, trigger in zip(ATTACKS, (poisoned.trigger, *poisoned.others), strict=True):
            exam = Exam(splits.test, trigger, reference)
            found, clean = (exam.score(model).as_json() for model in (made.model, reference))
            rows.append(
                {
                    "method": method.name,
                    "attack": attack.name,
                    "target": trigger.classes[trigger.target],
                    "seed": SEED,
                    "ACC_%": 100 * found["acc"]["value"],
                    "ASR_%": 100 * found["asr"]["value"],
                    "RA_%": 100 * found["ra"]["value"],
                    "ASR of reference_%": 100 * clean["asr"]["value"],
                    "RA of reference_%": 100 * clean["ra"]["value"],
                    "seconds": made.seconds,
                    "barred_clips": made.chosen.get("barred_clips"),
                }
            )
            print(rows[-1], flush=True)
    write_measured(RESULTS / "untrusted_several.json", rows, ABOUT)
