"""Lists of kept and dropped clips."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from closesesame.core.errors import DataError
from closesesame.detection.decisions import Decisions, load_decisions

IDS = ("a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav")


def test_decisions_have_the_last_word() -> None:
    flagged = torch.tensor([True, True, False, False])
    decided = Decisions(kept=("a/2.wav", "b/1.wav"), dropped=("b/2.wav",))
    assert decided.applied(IDS, flagged).tolist() == [True, False, False, True]
    assert flagged.tolist() == [True, True, False, False]
    assert Decisions().applied(IDS, flagged).tolist() == flagged.tolist()
    assert decided.by_id == {"a/2.wav": "kept", "b/1.wav": "kept", "b/2.wav": "dropped"}


def test_a_list_is_read(tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    file.write_text(json.dumps({"kept": ["a/1.wav"], "dropped": ["b/2.wav"]}))
    assert load_decisions(file, IDS) == Decisions(kept=("a/1.wav",), dropped=("b/2.wav",))
    file.write_text("{}")
    assert load_decisions(file, IDS) == Decisions()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"kept": ["a/1.wav"], "dropped": ["a/1.wav"]}, "keeps and drops a/1.wav"),
        ({"dropped": ["c/1.wav", "a/1.wav"]}, "decides on 1 clip outside of what is screened (c/1.wav)"),
        ({"dropped": "a/1.wav"}, "is no list of decisions"),
        ({"dropped": [1]}, "is no list of decisions"),
        ({"drop": []}, "is no list of decisions"),
        ([], "holds no object in braces; the page of a screening writes one"),
    ],
)
def test_what_is_no_list_is_one_sentence(content: Any, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="list.json") as told:
        load_decisions(file, IDS)
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)


def test_a_missing_list_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no .*none.json; the page of a screening writes"):
        load_decisions(tmp_path / "none.json", IDS)
