"""Methods, registries, seeds and shapes."""

import json
from typing import ClassVar

import pytest
import torch
from pydantic import Field

from closesesame.core.errors import SettingError
from closesesame.core.method import Method, Registry
from closesesame.core.progress import Track, shown
from closesesame.core.seeding import derive, generator, isolated
from closesesame.training import Training


class Example(Method):
    """A method for these tests."""

    name: ClassVar[str] = "example"
    cite: ClassVar[str] = "none"
    loud: ClassVar[bool] = True

    level: float = Field(0.5, ge=0, le=1, description="a number")
    sizes: tuple[int, ...] = Field((1, 2), description="some sizes")
    sound: str | None = Field(None, description="a file")
    fast: bool = Field(False, description="a switch")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"level": 2}, "Example.level must be <= 1.0, got 2"),
        ({"level": "x"}, "Example.level must be a valid number, unable to parse string as a number, got 'x'"),
        (
            {"levle": 1},
            "Example has no setting 'levle'; known are fast, level, sizes, sound; did you mean 'level'?",
        ),
    ],
)
def test_a_wrong_setting_is_one_sentence(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingError) as error:
        Example(**settings)
    assert str(error.value) == sentence


def test_text_is_read_by_the_type_of_the_field() -> None:
    made = Example.parse({"level": "0.25", "sizes": "[3, 4]", "sound": "none", "fast": "true"})
    assert made == Example(level=0.25, sizes=(3, 4), sound=None, fast=True)
    assert Example.parse(json.loads(json.dumps(made.settings()))) == made


def test_a_method_is_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Example().level = 1.0  # type: ignore[misc]


def test_claims_are_the_class_variables_alone() -> None:
    assert Example.claims() == {"loud": True}


def test_registry_names_the_nearest_and_takes_foreign_classes() -> None:
    registry = Registry("thing", Example, Example)
    with pytest.raises(SettingError, match="no thing is called 'exampel'.*did you mean 'example'"):
        registry["exampel"]
    assert registry[f"{__name__}:Example"] is Example
    with pytest.raises(SettingError, match="cannot be imported"):
        registry["no.such.module:Thing"]
    with pytest.raises(SettingError, match="must be a subclass of Example"):
        registry["pathlib:Path"]
    assert registry.recall(Example.full_name(), {}) == Example()
    assert Example.full_name() == f"{__name__}:Example"
    assert Training.full_name() == "training"
    with pytest.raises(SettingError, match="import 'antigravity' first if you trust it"):
        registry.recall("antigravity:Thing", {})


def test_seeds_are_apart_by_purpose_and_global_state_is_kept() -> None:
    assert derive(0, "a") != derive(0, "b") != derive(1, "b")
    assert torch.equal(torch.rand(3, generator=generator(5)), torch.rand(3, generator=generator(5)))
    before = torch.random.get_rng_state()
    with isolated(1, "x"):
        first = torch.rand(2)
    with isolated(1, "x"):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_progress_is_shown_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(Track([1, 2], "library work", 2)) == [1, 2]
    with shown():
        assert list(Track([1, 2], "work in a log", 2)) == [1, 2]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with shown():
        track = Track([1, 2], "terminal work", 2)
        for _ in track:
            track.note("[red] loss 1")
    out, error = capsys.readouterr()
    assert out == ""
    assert "terminal work" in error
