"""What tests share: tones that stand for words, a small model, and real recordings where there are any."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from closesesame.attacks import BadNets
from closesesame.core import machine
from closesesame.core.memory import keep_freed
from closesesame.data import Splits
from closesesame.models import Classifier, save_model
from closesesame.testing import examples
from closesesame.testing.examples import RATE, SMALL, WORDS, make_tones
from closesesame.testing.examples import TRAINING as QUICK
from closesesame.training import train
from tests.commands import FolderOf, Sesame

__all__ = ["QUICK", "RATE", "SMALL", "WORDS", "make_tones"]

# Sums of floats depend on the number of threads, and small trainings on sums: it is one in every run.
torch.set_num_threads(1)
keep_freed()


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


@pytest.fixture(autouse=True)
def _same_weights_in_every_order() -> None:
    """A test that makes a network of its own gets the same weights whichever tests were run before it."""
    torch.manual_seed(0)


@pytest.fixture
def in_fp32() -> Iterator[None]:
    """Everything within the test is computed in fp32, so that it can be followed by hand."""
    with machine.precision("fp32"):
        yield


@pytest.fixture(scope="session")
def tones() -> Splits:
    """320 training, 40 validation and 200 test clips of half a second."""
    return examples.tones()


@pytest.fixture(scope="session")
def clean_model() -> Classifier:
    """A small model trained on clean tones; tests must not change it."""
    return examples.trained()


@pytest.fixture(scope="session")
def poisoned(tones: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `sesame poison` writes it; in `victim` beside it a model that was trained on it."""
    folder = tmp_path_factory.mktemp("poisoned")
    made = BadNets(rate=0.1, target="high").poison(tones.train, 0)
    made.save(folder / "poisoned", tones)
    save_model(train(SMALL, made.dataset, QUICK, seed=0), folder / "victim")
    return folder / "poisoned"


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


@pytest.fixture
def sesame(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sesame:
    """Runs a command: `sesame("data", clips)`."""
    return Sesame(monkeypatch, capsys)


@pytest.fixture
def model(clean_model: Classifier, tmp_path: Path) -> Path:
    """The folder of a clean model of four tones of half a second at 8 kHz."""
    return save_model(clean_model, tmp_path / "model", {"task": "word"})


@pytest.fixture
def clips(folder_of: FolderOf) -> Path:
    """Recordings of that model's classes; of what they say the model knows nothing."""
    return folder_of({"low": 24, "middle": 24, "high": 24, "top": 24})
