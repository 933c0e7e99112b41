"""The table of models that are attacked once more: which rows count, means and their order, by hand."""

from typing import Any

from benchmarks.render.attacked_again import attacked_again
from closesesame.evaluation.measures import ADVERSARIES


def row(method: str, asr: float, again: float | None, **more: Any) -> dict[str, Any]:
    """A poisoned row; attacks leave `again` of the model."""
    bare = method == "none"
    measured = {measure.key: again for pair in ADVERSARIES.items() for measure in pair}
    return {
        "data": "words",
        "task": "word",
        "model": "resnet",
        "attack": "room",
        "seed": 2,
        "poisoning_rate": 0.05,
        "clean_fraction": None if bare else 0.05,
        "clean_from": None if bare else "validation",
        "method": method,
        "method_name": method,
        "settings": {},
        "error": None,
        "acc": 0.9,
        "asr": asr,
        "ra": 0.5,
        **measured,
        **more,
    }


def clean(of: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The row of the model that was never poisoned; attacks leave 0.01 to 0.04 less of it."""
    less = {
        own.key: None if of[own.key] is None else of[own.key] - 0.01 * number
        for number, own in enumerate(ADVERSARIES, 1)
    }
    return of | less | {"poisoning_rate": 0.0, "asr": 0.0} | more


def lines(*rows: dict[str, Any], clean_too: bool = True) -> list[str]:
    """The table below its head; beside each row stands that of the model that was never poisoned."""
    parts: list[list[dict[str, Any]]] = [list(rows[:3]), list(rows[3:])]
    if clean_too:
        parts = [[*part, *map(clean, part)] for part in parts]
    first, second = parts
    grids: dict[str, Any] = {"removals_test": {"rows": first}, "removals_test_more": {"rows": second}}
    elsewhere = {"removals_development": {"rows": [row("none", 1, 1, seed=7), row("restore", 1, 1, seed=7)]}}
    return attacked_again(grids | elsewhere).splitlines()[2:]


def test_planted_cases_with_the_usual_clean_clips_count_once() -> None:
    found = lines(
        row("none", 0.9, 0.95),
        row("restore", 0.04, 0.3),
        row("ft", 0.02, 0.2),
        row("none", 0.99, 0.99),  # the same case, trained on another machine
        row("ft", 0.06, None),  # was not attacked again
        row("restore", 0.5, 0.9, clean_fraction=0.01),
        row("restore", 0.5, 0.9, clean_from="train"),
        row("none", 0.5, 0.6, seed=3),  # hardly planted
        row("restore", 0.5, 0.9, seed=3),
        row("none", 0.8, 0.85, attack="warp"),
        row("restore", 0.08, 0.5, attack="warp"),
        row("none", 0.85, 0.9, poisoning_rate=0.1),
        row("restore", 0.06, 0.4, poisoning_rate=0.1),
        row("restore", 0.5, 0.9, seed=4),  # its victim is not measured
        row("none", 0.9, 0.9, attack="comb"),  # restore did not meet it
        row("zero", 0.01, 0.6, attack="comb"),
    )
    assert found == [
        "| `restore` | 3 | 6.0 | 40.0 (39.0) | 40.0 (38.0) | 40.0 (37.0) | 40.0 (36.0) |",
        "| `zero` | 1 | 1.0 | 60.0 (59.0) | 60.0 (58.0) | 60.0 (57.0) | 60.0 (56.0) |",
        "| `ft` | 1 | 2.0 | 20.0 (19.0) | 20.0 (18.0) | 20.0 (17.0) | 20.0 (16.0) |",
        "| the victim itself | 3 | 85.0 | 90.0 (89.0) | 90.0 (88.0) | 90.0 (87.0) | 90.0 (86.0) |",
    ]


def test_each_attack_has_its_column() -> None:
    keys = [own.key for own in ADVERSARIES]
    marked = row("restore", 0.04, 0.3, **{key: 0.1 * number for number, key in enumerate(keys, 1)})
    [first, _] = lines(row("none", 0.9, 0.95), marked)
    assert first.startswith("| `restore` | 1 | 4.0 | 10.0 (9.0) | 20.0 (18.0) | 30.0 (27.0) | 40.0 (36.0) |")
    assert keys == ["retune_1", "retune_5", "retune_20", "reactivate"]


def test_without_such_rows_there_is_no_table() -> None:
    assert lines(row("none", 0.9, None), row("restore", 0.04, None)) == []
    found = row("none", 0.9, 0.95), row("restore", 0.04, 0.3)
    assert len(lines(*found)) == 2
    assert lines(*found, clean_too=False) == []
