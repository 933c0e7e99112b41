"""ART's poison detectors on a poisoned speech set and its victim, as a user of ART would call them.

.venv-art/bin/python -m benchmarks peers        (the environment: peers_requirements.txt)

Every example of the poisoned training set is judged; poisoned is positive. The victim works on its log-mel
maps, since ART's classifier wants one network without a front end.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from art.defences.detector.poison import ActivationDefence, SpectralSignatureDefense
from art.estimators.classification import PyTorchClassifier

from closesesame import train
from closesesame.attacks import BadNets
from closesesame.bench.queue.worker import peak_mb
from closesesame.bench.results import write_measured
from closesesame.data.speech import synthetic_speech
from closesesame.models import ResNet

from . import RESULTS

RATES = (0.0, 0.02, 0.05)


def main() -> None:
    """Runs both detectors at each poisoning rate and writes one row each."""
    rows = [row for rate in RATES for row in measure(rate)]
    write_measured(RESULTS / "peers_art.json", rows)
    print(json.dumps(rows, indent=1))


def measure(rate: float) -> list[dict[str, Any]]:
    """Both detectors on one poisoned set."""
    splits = synthetic_speech()
    poisoned = BadNets(rate=rate).poison(splits.train, 0)
    victim = train(ResNet(), poisoned.dataset, seed=0)
    with torch.no_grad():
        maps = victim.front_end(poisoned.dataset.inputs[:])
    x, y = maps.numpy(), np.eye(len(splits.train.classes))[poisoned.dataset.labels.numpy()]
    classifier = PyTorchClassifier(
        model=victim.body,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=x.shape[1:],
        nb_classes=y.shape[1],
    )

    def activation_clustering() -> list[int]:
        _, clean = ActivationDefence(classifier, x, y).detect_poison(nb_clusters=2, nb_dims=10, reduce="PCA")
        return list(clean)

    def spectral_signatures() -> list[int]:
        defence = SpectralSignatureDefense(classifier, x, y, expected_pp_poison=max(rate, 0.01))
        _, clean = defence.detect_poison()
        return list(clean)

    mask = poisoned.poisoned_mask.numpy()
    found: list[tuple[Callable[[], list[int]], int]] = [(activation_clustering, 5), (spectral_signatures, 5)]
    return [judge(detect, lines, mask, rate, poisoned.share_of_target) for detect, lines in found]


def judge(
    detect: Callable[[], list[int]], lines: int, mask: np.ndarray, rate: float, share: float
) -> dict[str, Any]:
    """Rates of one detector, and what it cost."""
    started = time.perf_counter()
    flagged = np.array(detect()) == 0
    return {
        "peer": f"ART {detect.__name__.replace('_', ' ')}",
        "poisoning_rate": rate,
        "poisoned_share_of_target": share,
        "tpr": float(flagged[mask].mean()) if mask.any() else None,
        "fpr": float(flagged[~mask].mean()),
        "clips": len(mask),
        "seconds": time.perf_counter() - started,
        "peak_mb": peak_mb(),
        "lines_of_user_code": lines,
    }
