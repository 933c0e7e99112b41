"""What README promises is run: its commands in their order, and its Python."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from closesesame import __version__
from closesesame.cli.app import app
from closesesame.data import Splits
from closesesame.models import Classifier, load_model, save_model
from closesesame.training import Training
from tests.commands import Sesame

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.S)
SHELL = [block for kind, block in BLOCKS if kind == ""]
PYTHON = [block for kind, block in BLOCKS if kind == "python"]
MADE_ANEW = {"poison": "POISONED", "train": "MODEL"}
QUICKER = {
    "train": ("--set", "epochs=2", "--set", "widths=[8,16]", "--set", "lr=0.02"),
    "remove": ("--set", "steps=2"),
    "import": ("--set", "widths=[8,16]"),
    "inspect": ("--set", "steps=3"),
    "catalogue": ("--attack", "badnets"),
    "screen": ("--set", "check_steps=2", "--set", "strong_epochs=2"),
}


def commands(block: str) -> list[list[str]]:
    """The words of each `sesame` line, without what stands behind `#`."""
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines() if line.startswith("sesame ")]


QUICK_SAFE = (
    "--set",
    "check_steps=2",
    "--set",
    "first_steps=2",
    "--set",
    "repair_steps=2",
    "--set",
    "strong_epochs=2",
)


@pytest.mark.parametrize("words", [words for block in SHELL for words in commands(block)], ids=shlex.join)
def test_every_command_is_one_that_there_is(words: list[str]) -> None:
    app.parse_args(words, exit_on_error=False, print_error=False)


RUN = [block for block in SHELL if commands(block) and "bench" not in block]


@pytest.mark.parametrize("block", RUN, ids=[shlex.join(commands(block)[0]) for block in RUN])
def test_the_commands_of_a_block_work_one_after_the_other(
    block: str,
    sesame: Sesame,
    folder_of: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder_of({"no": 48, "open": 48, "stop": 48, "yes": 48}, rate=16_000, seconds=1.0).rename(
        tmp_path / "CLIPS"
    )
    folder_of({"no": 28, "open": 28, "stop": 28, "yes": 28}, rate=16_000, seconds=1.0).rename(
        tmp_path / "CLEAN"
    )
    monkeypatch.chdir(tmp_path)
    Path("SPEECH").mkdir()
    rng = np.random.default_rng(0)
    soundfile.write("plane.wav", 0.1 * rng.standard_normal(16_000), 16_000)
    soundfile.write("CLIP.wav", 0.1 * rng.standard_normal(16_000), 16_000)
    soundfile.write("SPEECH/talk.flac", 0.1 * rng.standard_normal(40_000), 16_000)
    sesame("train", "CLIPS", "MODEL", *QUICKER["train"])
    torch.save(load_model("MODEL").state_dict(), "weights.pt")
    Path("labels.txt").write_text("\n".join(load_model("MODEL").card.classes))
    for words in commands(block):
        if words[0] in MADE_ANEW:
            shutil.rmtree(MADE_ANEW[words[0]], ignore_errors=True)
        sesame(*words, *QUICKER.get(words[0], ()), *(QUICK_SAFE if "--untrusted" in words else ()))


def test_the_python_that_repairs_a_network_of_one_s_own_works(
    tones: Splits, clean_model: Classifier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (block,) = [block for block in PYTHON if "adapt(" in block]
    monkeypatch.setattr("closesesame.data.load_splits", lambda _: tones)
    monkeypatch.setattr("closesesame.load_splits", lambda _: tones)
    network = load_model(save_model(clean_model, tmp_path / "m"))
    names = {"network": network}
    exec(block.replace("16_000", "8_000").replace("Restore()", "Restore(steps=2)"), names)
    assert set(names["repaired"].state_dict()) == set(network.state_dict())


def test_the_example_works_and_prints_what_is_shown_below_it(
    tones: Splits, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = [block for block in PYTHON if "Exam(" in block]
    monkeypatch.setattr("closesesame.data.speech.synthetic_speech", lambda: tones)
    monkeypatch.setattr(Training, "__init__", _short(Training.__init__))
    exec(block.replace("Restore()", "Restore(steps=2)"), {})
    printed = capsys.readouterr().out
    (shown,) = [block for kind, block in BLOCKS if kind == "text"]
    assert re.sub(r"[\d.]+", "N", printed).split() == re.sub(r"[\d.]+", "N", shown).split()


@pytest.mark.parametrize("place", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_every_link_into_the_repository_leads_somewhere(place: str) -> None:
    assert (ROOT / place).exists()


def test_the_citation_names_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.M) == [__version__]


def _short(make: Callable[..., None]) -> Callable[..., None]:
    def quicker(self: Training, **given: object) -> None:
        make(self, **({"epochs": 2, "precision": "fp32"} | given))

    return quicker
