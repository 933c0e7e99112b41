"""Methods, registries, seeds and shapes."""

import json
import re
from typing import Annotated, Any, ClassVar, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from closesesame.core.errors import SettingError
from closesesame.core.method import Method, Registry
from closesesame.core.progress import Track, shown
from closesesame.core.seeding import derive, generator, isolated
from closesesame.core.settings import Settings, default
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
        ({"level": "x"}, "Example.level must be a number, got 'x'"),
        ({"level": float("nan")}, "Example.level must be a finite number, got nan"),
        ({"sizes": 3}, "Example.sizes must be a list, got 3"),
        ({"sizes": [1, "x"]}, "Example.sizes[1] must be a whole number, got 'x'"),
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


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text("abcxyz019.- ", max_size=200)
    | st.just(10**4000),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abname", max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


class Inner(Settings):
    """Settings within settings."""

    name: str
    count: int = 3

    @model_validator(mode="after")
    def _count_is_not_99(self) -> "Inner":
        if self.count == 99:
            raise ValueError("has a count of 99; take another")
        return self


class Outer(Settings):
    """A value of every kind."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    count: int = 1
    switch: bool = False
    text: Annotated[str, Field(min_length=1, max_length=5)] = "x"
    form: Annotated[str, Field(pattern="^a+$")] = "a"
    pair: tuple[int, int] = (1, 2)
    many: tuple[int, ...] = Field((1,), min_length=1, max_length=2)
    listed: list[int] = Field([1])
    chosen: Literal["a", "b"] = "a"
    table: dict[str, int] = Field({})
    inner: Inner = Inner(name="x")
    inners: tuple[Inner, ...] = ()
    target: int | str = 0
    maybe: Annotated[int, Field(ge=0)] | None = None
    nothing: None = None
    even: Annotated[int, Field(multiple_of=2)] = 2
    method: Any = None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"share": None}, "Outer.share must be a number, got none"),
    ({"share": "1e999"}, "Outer.share must be a finite number, got '1e999'"),
    ({"share": [1.0]}, "Outer.share must be a number, got [1.0]"),
    ({"count": 1.5}, "Outer.count must be a whole number, got 1.5"),
    ({"count": float("inf")}, "Outer.count must be a finite number, got inf"),
    (
        {"count": "9" * 5000},
        f"Outer.count must be a whole number of fewer digits, got '{'9' * 60}'... (5,000 characters)",
    ),
    ({"switch": "perhaps"}, "Outer.switch must be true or false, got 'perhaps'"),
    ({"switch": 7}, "Outer.switch must be true or false, got 7"),
    ({"switch": []}, "Outer.switch must be true or false, got []"),
    ({"text": 3}, "Outer.text must be text, got 3"),
    ({"text": ""}, "Outer.text must be text of 1 or more characters, got ''"),
    (
        {"text": "y" * 999},
        f"Outer.text must be text of at most 5 characters, got '{'y' * 60}'... (999 characters)",
    ),
    ({"form": "b"}, "Outer.form must be text of the form ^a+$, got 'b'"),
    ({"pair": [1]}, "Outer.pair must be a list of 2 or more"),
    ({"pair": [1, 2, 3]}, "Outer.pair must be a list of at most 2, got [1, 2, 3]"),
    ({"many": []}, "Outer.many must be a list of 1 or more, got []"),
    ({"many": {"a": 1}}, 'Outer.many must be a list, got {"a": 1}'),
    ({"listed": "abc"}, "Outer.listed must be a list, got 'abc'"),
    ({"chosen": "c"}, "Outer.chosen must be one of 'a' or 'b', got 'c'"),
    (
        {"chosen": ["x"] * 500},
        f"Outer.chosen must be one of 'a' or 'b', got {json.dumps(['x'] * 500)[:60]}...",
    ),
    ({"table": 3}, "Outer.table must be a table of names and values, got 3"),
    ({"table": {"a": "q"}}, "Outer.table.a must be a whole number, got 'q'"),
    ({"table": {1: 1}}, "Outer.table[1] must be text, got 1"),
    ({"inner": 3}, "Outer.inner must be a table of names and values, got 3"),
    ({"inner": {}}, "Outer.inner.name is missing"),
    (
        {"inner": {"nam": "x"}},
        "Outer.inner has no setting 'nam'; known are count, name; did you mean 'name'?",
    ),
    ({"inners": [{"name": "x"}, {}]}, "Outer.inners[1].name is missing"),
    ({"inners": [{"name": "x", "count": 99}]}, "Outer.inners[0] has a count of 99; take another"),
    ({"target": [1]}, "Outer.target must be a whole number or text, got [1]"),
    ({"maybe": -1}, "Outer.maybe must be >= 0, got -1"),
    ({"maybe": "q"}, "Outer.maybe must be a whole number, got 'q'"),
    ({"nothing": 1}, "Outer.nothing must be none, got 1"),
    ({"even": 10**5000 + 1}, "Outer.even must be a multiple of 2, got a number of about 5,000 digits"),
]


@pytest.mark.parametrize(("settings", "sentence"), WRONG, ids=[sentence[:40] for _, sentence in WRONG])
def test_whatever_is_wrong_is_said_in_plain_words(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError) as error:
        Outer(**settings)
    assert str(error.value) == sentence


def test_settings_know_no_infinity() -> None:
    for value in (float("inf"), float("-inf"), float("nan")):
        with pytest.raises(SettingError, match="must be a finite number"):
            Training(lr=value)


@given(st.dictionaries(st.sampled_from(sorted(Outer.model_fields)), ANYTHING, min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_any_value_is_taken_or_refused_in_a_short_sentence_without_python(given: dict[str, Any]) -> None:
    try:
        Outer(**given)
    except SettingError as error:
        sentence = str(error)
        assert len(sentence) < 250
        assert not re.search(
            r"Input|valid |instance|Tuple|<class|NoneType|pydantic|None|True|False", sentence
        )


def test_text_is_read_by_the_type_of_the_field() -> None:
    made = Example.parse({"level": "0.25", "sizes": "[3, 4]", "sound": "none", "fast": "true"})
    assert made == Example(level=0.25, sizes=(3, 4), sound=None, fast=True)
    assert Example.parse(json.loads(json.dumps(made.settings()))) == made


def test_another_default_keeps_range_and_description() -> None:
    class Louder(Example):
        """The same with another default."""

        level: float = default(Example, "level", 0.75)

    assert (Louder().level, Example().level) == (0.75, 0.5)
    assert Louder.model_fields["level"].description == "a number"
    with pytest.raises(SettingError, match=r"Louder.level must be <= 1.0, got 2"):
        Louder(level=2)

    class Quiet(Example):
        """A default out of range."""

        level: float = default(Example, "level", -1)

    with pytest.raises(SettingError, match=r"Quiet.level must be >= 0"):
        Quiet()


def test_a_method_is_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Example().level = 1.0  # type: ignore[misc]


def test_claims_are_the_class_variables_alone() -> None:
    assert Example.claims() == {"domains": ("speech",), "loud": True}


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
    with pytest.raises(SettingError, match="import 'antigravity' first"):
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
