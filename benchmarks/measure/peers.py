"""Poison detectors beside those of the Adversarial Robustness Toolbox (ART), on the same arrays and victim.

.venv-art/bin/python -m benchmarks peers        (the environment: peers_requirements.txt)

Every example of the poisoned training set is judged; poisoned is positive. All get the victim's log-mel maps
and its network without a front end, since that is what ART's classifier wants. Each runs in a process of its
own, on one thread, and twice: what is loaded at the first call is no matter of the method.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.defences.detector.poison import ActivationDefence, SpectralSignatureDefense
from art.estimators.classification import PyTorchClassifier

from closesesame import adapt, train
from closesesame.attacks import BadNets
from closesesame.bench.queue.worker import forget_peak, peak_mb
from closesesame.bench.results import write_measured
from closesesame.data import Dataset
from closesesame.data.speech import synthetic_speech
from closesesame.detection import DETECTIONS
from closesesame.evaluation.screening import found_at
from closesesame.models import Classifier, ResNet, load_model, save_model

from . import RESULTS

RATES = (0.0, 0.02, 0.05)
OURS = ("activation_clustering", "spectral_signatures", "dynamics")
FPR_PERCENT = 1
ABOUT = (
    "TPR and FPR of ART are those of its own decision, which has no threshold to move; ours are ranked, so "
    f"TPR stands at an FPR of {FPR_PERCENT} % and at that of ART's detector of the same paper (for dynamics: "
    "the lower of the two). Lines are those that a user writes once data and model are there. Memory is the "
    "peak above what data and model take."
)


@dataclass(frozen=True)
class Arrays:
    """What all detectors get.

    Attributes:
        maps: (n, 1, band, frame) features of the clips.
        labels: (n,) as given.
        model: its body takes the maps.
        rate: poisoning rate.
    """

    maps: torch.Tensor
    labels: torch.Tensor
    model: Classifier
    rate: float

    @classmethod
    def load(cls, folder: Path) -> "Arrays":
        """What `made` wrote."""
        kept = torch.load(folder / "arrays.pt", weights_only=True)
        return cls(kept["maps"], kept["labels"], load_model(folder / "victim"), kept["rate"])


def main() -> None:
    """Runs all detectors at each poisoning rate and writes one row each."""
    rows: list[dict[str, Any]] = []
    for rate in RATES:
        with tempfile.TemporaryDirectory() as folder:
            mask, share = made(rate, Path(folder))
            rows += [row | {"poisoned_share_of_target": share} for row in measured(Path(folder), mask, rate)]
    write_measured(RESULTS / "peers_art.json", rows, ABOUT)


def made(rate: float, folder: Path) -> tuple[torch.Tensor, float]:
    """Trains a victim and writes what the detectors get; returns which clips are poisoned."""
    splits = synthetic_speech()
    poisoned = BadNets(rate=rate).poison(splits.train, 0)
    victim = train(ResNet(), poisoned.dataset, seed=0)
    kept = {"maps": victim.features(poisoned.dataset), "labels": poisoned.dataset.labels, "rate": rate}
    torch.save(kept, folder / "arrays.pt")
    save_model(victim, folder / "victim")
    return poisoned.poisoned_mask, poisoned.share_of_target


def measured(folder: Path, mask: torch.Tensor, rate: float) -> Iterator[dict[str, Any]]:
    """A row a detector; ART first, for ours are compared at its false-positive rate."""
    fpr: dict[str, float] = {}
    for name in ART:
        flagged, seconds, mb = alone(by_art, folder, name)
        fpr[name] = float(flagged[~mask].mean())
        tpr = float(flagged[mask].mean()) if mask.any() else None
        yield row(f"ART {name}", rate, mask, ART[name][1], seconds, mb) | {"tpr": tpr, "fpr": fpr[name]}
    for name in OURS:
        scores, seconds, mb = alone(by_us, folder, name)
        own = row(f"closesesame {name}", rate, mask, 2, seconds, mb)
        if mask.any():
            clean, at = scores[~mask], fpr.get(name, min(fpr.values()))
            threshold = float(clean.quantile(1 - at))
            own |= {
                "tpr": found_at(scores[mask], clean, FPR_PERCENT).value,
                "fpr": FPR_PERCENT / 100,
                "tpr_at_fpr_of_art": float((scores[mask] > threshold).double().mean()),
            }
        yield own


def row(
    detector: str, rate: float, mask: torch.Tensor, lines: int, seconds: float, mb: float
) -> dict[str, Any]:
    """What every row has; the rates are those of a detector that found nothing to say."""
    return {
        "detector": detector,
        "poisoning_rate": rate,
        "clips": len(mask),
        "tpr": None,
        "fpr": None,
        "tpr_at_fpr_of_art": None,
        "seconds": seconds,
        "mb": mb,
        "lines_of_user_code": lines,
    }


def alone(
    detect: Callable[[Arrays, str], torch.Tensor], folder: Path, name: str
) -> tuple[torch.Tensor, float, float]:
    """What a detector says of each clip, its seconds and its memory in MB, in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(timed, detect, folder, name).result()


def timed(
    detect: Callable[[Arrays, str], torch.Tensor], folder: Path, name: str
) -> tuple[torch.Tensor, float, float]:
    """Runs twice and measures the second."""
    torch.set_num_threads(1)
    arrays = Arrays.load(folder)
    detect(arrays, name)
    forget_peak()
    before, started = peak_mb(), time.perf_counter()
    found = detect(arrays, name)
    return found.double(), time.perf_counter() - started, peak_mb() - before


def by_art(arrays: Arrays, name: str) -> torch.Tensor:
    """Which clips ART flags (n,)."""
    x, y = arrays.maps.numpy(), np.eye(int(arrays.labels.max()) + 1)[arrays.labels.numpy()]
    classifier = PyTorchClassifier(
        model=arrays.model.body,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=x.shape[1:],
        nb_classes=y.shape[1],
    )
    return torch.tensor(ART[name][0](classifier, x, y, arrays.rate)) == 0


def _clusters(classifier: PyTorchClassifier, x: np.ndarray, y: np.ndarray, rate: float) -> list[int]:
    del rate
    _, clean = ActivationDefence(classifier, x, y).detect_poison(nb_clusters=2, nb_dims=10, reduce="PCA")
    return list(clean)


def _signatures(classifier: PyTorchClassifier, x: np.ndarray, y: np.ndarray, rate: float) -> list[int]:
    defence = SpectralSignatureDefense(classifier, x, y, expected_pp_poison=max(rate, 0.01))
    return list(defence.detect_poison()[1])


ART: dict[str, tuple[Callable[[PyTorchClassifier, np.ndarray, np.ndarray, float], list[int]], int]] = {
    "activation_clustering": (_clusters, 5),
    "spectral_signatures": (_signatures, 5),
}
"""What each returns is 1 for a clean clip, and the lines that its user writes."""


def by_us(arrays: Arrays, name: str) -> torch.Tensor:
    """The score of each clip (n,)."""
    classes = arrays.model.card.classes
    data = Dataset.of(arrays.maps, arrays.labels, classes=classes)
    model = adapt(arrays.model.body, classes, data.input_shape, None)
    scores = DETECTIONS.make(name, {}).score(model, data, None, 0).scores
    return torch.as_tensor(scores)
