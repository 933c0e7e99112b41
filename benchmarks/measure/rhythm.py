"""The rhythm attack seed by seed: every seed draws another rhythm, so its strength stands beside its ASR.

python -m benchmarks rhythm DATA_FOLDER
"""

import sys
from pathlib import Path

from closesesame import Exam, load_splits, train
from closesesame.attacks import Rhythm
from closesesame.bench.results import write_measured
from closesesame.models import ResNet
from closesesame.training import Training

from . import RESULTS

SEEDS, RATES = (0, 1, 2), (0.0, 0.05, 0.1)
TRAINING = Training(precision="fp32")
ABOUT = (
    "ResNet on keywords10, fp32. `least_warp` bounds the mean warp from below; what a seed draws above that "
    "still counts."
)


def main() -> None:
    """One row a seed and poisoning rate; rate 0 is the clean reference model."""
    splits = load_splits(Path(sys.argv[1]) / "keywords10")
    rows = []
    for seed in SEEDS:
        reference = train(ResNet(), splits.train, TRAINING, seed=seed)
        for rate in RATES:
            poisoned = Rhythm(rate=rate).poison(splits.train, seed)
            model = train(ResNet(), poisoned.dataset, TRAINING, seed=seed) if rate else reference
            scores = Exam(splits.test, poisoned.trigger, reference).score(model)
            if scores.asr is None or scores.ra is None or scores.ra_reference is None:
                raise AssertionError
            rows.append(
                {
                    "seed": seed,
                    "mean warp_% of the speech": 100 * float(poisoned.trigger.state["warp"]),
                    "poisoning_rate_%": 100 * rate,
                    "ACC_%": 100 * scores.acc.value,
                    "ASR_%": 100 * scores.asr.value,
                    "RA_%": 100 * scores.ra.value,
                    "RA of reference_%": 100 * scores.ra_reference.value,
                }
            )
            print(rows[-1], flush=True)
            write_measured(RESULTS / "attacks_rhythm.json", rows, ABOUT)
