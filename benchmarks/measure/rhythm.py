"""The rhythm attack seed by seed: every seed draws another rhythm, so its strength stands beside its ASR.

python benchmarks/rhythm.py DATA_FOLDER
"""

import json
import sys
from pathlib import Path

from closesesame import Exam, __version__, load_splits, train
from closesesame.attacks import Rhythm
from closesesame.core.disk import write_whole
from closesesame.core.machine import host
from closesesame.models import ResNet
from closesesame.training import Training

SEEDS, RATES = (0, 1, 2), (0.0, 0.05, 0.1)
TRAINING = Training(precision="fp32")
OUT = Path(__file__).parent / "results" / "attacks-rhythm.json"


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
            content = {
                "recipe": "attacks-rhythm",
                "about": "ResNet on keywords10, fp32. `least_warp` bounds the mean warp from below; what a "
                "seed draws above that still counts.",
                "version": __version__,
                "host": host(),
                "rows": rows,
            }
            write_whole(json.dumps(content, indent=1) + "\n", OUT)


if __name__ == "__main__":
    main()
