"""What commands print: the table of scores, values in words, answers, and notes."""

import json
import warnings
from collections.abc import Callable

import pytest

from closesesame.cli.app import app as program
from closesesame.cli.app import command
from closesesame.cli.printing import Answer, facts, scores_table, table
from closesesame.core.errors import DataWarning
from closesesame.core.wording import NONE, said
from closesesame.evaluation import Rate, Scores
from closesesame.evaluation.measures import DER, OF_MODELS

VICTIM = Scores(Rate(196, 200), Rate(180, 180), Rate(0, 180), Rate(172, 180))
REPAIRED = Scores(Rate(190, 200), Rate(3, 180), Rate(160, 180), Rate(172, 180))
ROWS = [("victim", VICTIM, None), ("ft_augmented", REPAIRED, 0.9734)]

Print = Callable[..., list[str]]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Print:
    """Lines of what a function prints in a terminal of some width."""

    def run(width: int, function: Callable[..., object], *given: object) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        function(*given)
        return capsys.readouterr().out.splitlines()

    return run


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("┃", "│").strip("│").split("│")]


def test_the_table_of_scores_has_every_measure_with_its_interval(printed: Print) -> None:
    lines = printed(200, scores_table, ROWS)
    assert cells(lines[1]) == ["model", "ACC", "ASR", "RA", "DER"]
    assert cells(lines[3]) == ["victim", str(VICTIM.acc), str(VICTIM.asr), str(VICTIM.ra), NONE]
    assert cells(lines[4]) == [
        "ft_augmented",
        str(REPAIRED.acc),
        str(REPAIRED.asr),
        str(REPAIRED.ra),
        "0.973",
    ]
    assert lines[-1] == f"RA of reference: {VICTIM.ra_reference}"


def test_the_table_of_scores_fits_eighty_columns_and_rounds_intervals_outwards(printed: Print) -> None:
    lines = printed(80, scores_table, ROWS)
    assert max(map(len, lines)) <= 80
    assert cells(lines[1]) == ["model", "ACC (%)", "ASR (%)", "RA (%)", "DER"]
    # Wilson: 98.0 % [95.0, 99.2], 100.0 % [97.9, 100.0] and 0.0 % [0.0, 2.1].
    assert cells(lines[3]) == ["victim", "98.0 [94, 100]", "100.0 [97, 100]", "0.0 [0, 3]", NONE]
    assert len(lines) == 7


def test_a_measure_that_nobody_took_has_no_column(printed: Print) -> None:
    lines = printed(200, scores_table, [("m", Scores(Rate(9, 10)), None)])
    assert cells(lines[1]) == ["model", "ACC"]
    assert len(lines) == 5


def test_every_measure_of_models_has_a_column_or_a_line(printed: Print) -> None:
    class Everything:
        def __getattr__(self, name: str) -> Rate:
            return Rate(1, 2)

    text = "\n".join(printed(400, scores_table, [("m", Everything(), 0.5)]))
    assert all(measure.name in text for measure in OF_MODELS)
    assert DER.name in text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, NONE),
        (True, "yes"),
        (0.123456, "0.1235"),
        (float("nan"), NONE),
        (12_345.6, "12,346"),
        (419_946, "419946"),
        ([], NONE),
        ({"lr": 0.01, "widths": [8, 16]}, "lr 0.01, widths 8, 16"),
        ([[[["deep"]]]], "\N{HORIZONTAL ELLIPSIS}"),
    ],
)
def test_values_are_said_in_words(value: object, words: str) -> None:
    assert said(value) == words


def test_what_is_printed_steers_no_terminal(printed: Print) -> None:
    hostile = "a\x1b[31m\nb"
    for lines in (
        printed(80, facts, {hostile: hostile}),
        printed(80, table, (hostile,), [{hostile: hostile}]),
        printed(5, table, (hostile, "b"), [{hostile: hostile}]),
    ):
        assert "\x1b" not in "".join(lines)
        assert "a\N{REPLACEMENT CHARACTER}[31m" in "".join(lines) or len(lines) > 2


def test_an_answer_is_json_facts_or_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Answer({"training_clips": 3}).print(as_json=False)
    assert capsys.readouterr().out == "training clips: 3\n"
    Answer({"training_clips": 3}).print(as_json=True)
    assert json.loads(capsys.readouterr().out) == {"training_clips": 3}
    Answer([{"a": 1}, {"a": 2}], lambda: None, lines=True).print(as_json=True)
    assert capsys.readouterr().out == '{"a": 1}\n{"a": 2}\n'


def test_a_command_prints_data_warnings_as_notes_and_may_fail_with_an_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @command("tried", of=program, bars=False)
    def tried(*, fail: bool = False) -> Answer:
        """Try.

        Examples:
            sesame tried
        """
        warnings.warn("a class is missing", DataWarning, stacklevel=1)
        if not fail:
            warnings.warn("something else", RuntimeWarning, stacklevel=1)
        return Answer({"found": 1}, failure="one job failed" if fail else "")

    try:
        with pytest.warns(RuntimeWarning, match="something else"):
            program(["tried"], exit_on_error=False, result_action="return_value")
        assert capsys.readouterr() == ("found: 1\n", "note: a class is missing\n")
        with pytest.raises(SystemExit) as end:
            program(["tried", "--fail", "--json"], exit_on_error=False, result_action="return_value")
        assert end.value.code == 1
        out, error = capsys.readouterr()
        assert json.loads(out) == {"found": 1}
        assert error == "note: a class is missing\nsesame: one job failed\n"
    finally:
        del program["tried"]
