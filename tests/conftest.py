"""What tests share: tones that stand for words, a small model, and real recordings where there are any."""

import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from closesesame.data import Dataset, Splits
from closesesame.models import Classifier, ResNet
from closesesame.training import Training, train

RATE = 8_000
WORDS = ("low", "middle", "high", "top")
SMALL = ResNet(widths=(8, 16))
QUICK = Training(epochs=6, batch_size=32, lr=0.01, precision="fp32")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says at the end which tests were skipped, by reason: a suite that skips in silence looks whole."""
    skipped = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        skipped[report.longrepr[2].removeprefix("Skipped: ")].append(report.nodeid)
    if skipped:
        terminalreporter.section("not run")
    for reason, names in sorted(skipped.items()):
        terminalreporter.write_line(f"{reason}:")
        terminalreporter.write_line("".join(f"    {name}\n" for name in sorted(names)).rstrip())


def make_tones(n: int, seed: int, length: int = RATE // 2) -> Dataset:
    """Four 'words', each a pair of tones with its own place, level and noise."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % len(WORDS)
    time = torch.arange(length) / RATE
    base = torch.tensor([300.0, 600.0, 1200.0, 2400.0])[labels, None]
    phase = 6.28 * torch.rand(n, 2, 1, generator=rng)
    wav = torch.sin(6.2832 * base * time + phase[:, 0]) + torch.sin(6.2832 * 1.3 * base * time + phase[:, 1])
    start = torch.rand(n, 1, generator=rng) * 0.2
    wav = wav * ((time > start) & (time < start + 0.25))
    wav = 0.1 * (0.5 + torch.rand(n, 1, generator=rng)) * wav
    wav = wav + 0.01 * torch.randn(n, length, generator=rng)
    speakers = [f"s{i % 12}" for i in range(n)]
    return Dataset.of(wav.float(), labels, classes=WORDS, sample_rate=RATE, speakers=speakers)


@pytest.fixture(scope="session")
def tones() -> Splits:
    """320 training, 40 validation and 200 test clips of half a second."""
    return Splits(make_tones(320, 1), make_tones(40, 2), make_tones(200, 3))


@pytest.fixture(scope="session")
def clean_model(tones: Splits) -> Classifier:
    """A small model trained on clean tones; tests must not change it."""
    return train(SMALL, tones.train, QUICK, seed=0)


@pytest.fixture(scope="session")
def real() -> Path:
    """Real recordings, named by the environment; tests that need them are skipped where there are none."""
    folder = Path(os.environ.get("CLOSESESAME_DATA", ""))
    if not (folder / "keywords10").is_dir():
        pytest.skip(
            "the variable CLOSESESAME_DATA names no folder of real recordings "
            "(in it keywords10, fsdd and speech_commands_300)"
        )
    return folder


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small data set of wav files: `folder_of({"yes": 12, "no": 12})`."""

    def write(counts: dict[str, int], rate: int = RATE, seconds: float = 0.5) -> Path:
        rng = np.random.default_rng(0)
        for number, (word, count) in enumerate(counts.items()):
            (tmp_path / "set" / word).mkdir(parents=True)
            time = np.arange(int(rate * seconds)) / rate
            for take in range(count):
                wav = 0.2 * np.sin(6.2832 * 400 * (number + 1) * time) + 0.01 * rng.standard_normal(len(time))
                name = f"s{take % 12}_nohash_{take // 12}.wav"
                soundfile.write(tmp_path / "set" / word / name, wav, rate)
        return tmp_path / "set"

    return write
