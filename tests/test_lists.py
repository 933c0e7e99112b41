"""Lists of methods and families in README and CONTRIBUTING are those of the registries."""

from typing import ClassVar

import pytest

from benchmarks.render import GUIDE, lists
from benchmarks.render.readme import contributing, filled
from closesesame.core.method import Method, Registry
from closesesame.families import LISTED, Listed


class Base(Method):
    """Something to test with.

    It sees nothing but
    what it is given.
    """

    def must(self, first: int, *, second: int) -> None:
        """Hook: is written by all."""

    def may(self, first: int) -> None:
        """Hook: is written by some."""

    def never(self) -> None:
        """Is final."""

    must.__isabstractmethod__ = True  # type: ignore[attr-defined]


class One(Base):
    """The first method."""

    name: ClassVar[str] = "one"


class Two(Base):
    """The second method."""

    name: ClassVar[str] = "two"


@pytest.fixture
def one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Listed(registry=Registry("thing", Base, One, Two), title="Things", example="")
    monkeypatch.setattr(lists, "LISTED", (listed,))


@pytest.mark.usefixtures("one_family")
def test_methods_are_listed_and_counted() -> None:
    assert lists.methods().splitlines()[2:] == ["| Things (2) | `one`, `two` |"]


@pytest.mark.usefixtures("one_family")
def test_a_family_says_what_a_method_writes_and_what_it_sees() -> None:
    (line,) = lists.families().splitlines()[2:]
    seen = "It sees nothing but what it is given."
    assert line == f"| Things, `Base` | `must(first, second)` | `may(first)` | {seen} |"


def test_every_family_but_architectures_says_what_it_sees() -> None:
    silent = [listed.name for listed in LISTED if not lists.sees(listed.registry.base)]
    assert silent == ["model"]
    assert all(list(lists.hooks(listed.registry.base, needed=True)) for listed in LISTED)


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
    made = filled("a file", text, {"x": lambda *_: "new"}, {})
    assert made == "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n"
    with pytest.raises(ValueError, match="a file has no <!-- x: begin --> ... <!-- x: end -->"):
        filled("a file", "a\n", {"x": lambda *_: "new"}, {})


def test_contributing_is_up_to_date_and_names_each_verb() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert contributing(text) == text
    assert contributing(text.replace("`judge(", "`rule(")) == text
