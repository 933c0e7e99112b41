"""Help pages, the page of all of them, and the tab key."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from closesesame.cli.app import app
from closesesame.cli.help import WIDEST
from closesesame.cli.reference import commands, help_of, reference
from closesesame.families import LISTED, Listed
from closesesame.listing import describe_method
from tests.commands import Sesame

SESAME = str(Path(sys.executable).with_name("sesame"))
COMMANDS = list(commands())
NAMES = [" ".join(("sesame", *words)) for words in COMMANDS]
INSTALL = ("--install-completion",)


def examples_of(words: tuple[str, ...]) -> list[str]:
    """The commands below `Examples` of a help page."""
    return [line.strip() for line in help_of(words).partition("Examples:\n")[2].splitlines()]


def test_the_walk_finds_commands_of_every_depth() -> None:
    assert {(), ("train",), ("bench",), ("bench", "run")} <= set(COMMANDS)
    verbs = Path(sys.modules["closesesame.cli.verbs"].__path__[0])
    files = {file.stem.removesuffix("_") for file in verbs.glob("[!_]*.py")}
    assert files == {words[0] for words in COMMANDS if words}


@pytest.mark.parametrize("words", [*COMMANDS, INSTALL], ids=[*NAMES, "sesame --install-completion"])
def test_every_help_page_has_examples_that_can_be_typed(words: tuple[str, ...]) -> None:
    examples = examples_of(words)
    assert examples[0].startswith(" ".join(("sesame", *words)))
    for example in examples:
        assert len(example) <= 78, "a terminal of 80 columns breaks it"
        program, *typed = shlex.split(example)
        assert program == "sesame"
        if "--help" not in typed:
            app.parse_args(typed, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("words", COMMANDS, ids=NAMES)
def test_help_is_wrapped_to_the_terminal(words: tuple[str, ...], columns: int) -> None:
    page, _, examples = help_of(words, columns).partition("Examples:\n")
    lines = page.splitlines()
    assert max(map(len, lines)) <= min(columns, WIDEST)
    assert not [line for line in lines if line != line.rstrip()]
    starts = {len(line) - len(line.lstrip()) for line in lines if line}
    assert starts <= ({0, 2, 4} if columns < 60 else {0, 2, 26})
    if columns >= 80:
        assert [line.strip() for line in examples.splitlines()] == examples_of(words)
    assert " ".join(re.sub(r"Examples:.*", "", help_of(words), flags=re.S).split()) == " ".join(page.split())


def test_flags_have_no_opposite_and_no_default_in_words() -> None:
    page = " ".join(help_of(("remove",)).split())
    assert "--no-" not in page
    assert "False" not in page
    assert "[default: auto]" in page


def test_help_says_what_must_be_typed_and_what_may() -> None:
    page = " ".join(help_of(("remove",)).split())
    assert re.search(r"OUT, --out [^-]*\[required\]", page)
    assert not re.search(r"--clean STR [^-]*\[required\]", page)
    assert "[choices: train, validation, test, all] [default: train]" in page


@pytest.mark.parametrize("family", LISTED, ids=lambda family: family.name)
def test_the_example_of_every_family_can_be_typed(family: Listed) -> None:
    for method in family.registry:
        program, *typed = shlex.split(describe_method(method, family.name)["example"])
        assert program == "sesame"
        app.parse_args(typed, exit_on_error=False, print_error=False)


def test_the_reference_has_the_help_of_every_command(tmp_path: Path) -> None:
    file = tmp_path / "docs" / "commands.md"
    subprocess.run([sys.executable, "-m", "closesesame.cli.reference", file], check=True)
    page = file.read_text(encoding="utf-8")
    assert page == reference()
    assert re.findall(r"^## (.*)$", page, re.M) == NAMES
    for words in COMMANDS:
        assert f"```\n{help_of(words)}\n```" in page
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    assert "-m closesesame.cli.reference docs/commands.md" in makefile


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_and_its_options(shell: str, sesame: Sesame, tmp_path: Path) -> None:
    sesame("--install-completion", "--shell", shell, "--output", tmp_path / "script")
    script = (tmp_path / "script").read_text(encoding="utf-8")
    for words in COMMANDS[1:]:
        assert words[-1] in script
    assert all(option in script for option in ("sample-rate", "timeout-s", "json"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_tab_key_completes_in_bash(sesame: Sesame, tmp_path: Path) -> None:
    sesame("--install-completion", "--shell", "bash", "--output", tmp_path / "script")

    def offered(*typed: str) -> set[str]:
        line = f"COMP_WORDS=({shlex.join(typed)}); COMP_CWORD={len(typed) - 1}"
        tried = (
            f"source {shlex.quote(str(tmp_path / 'script'))}; {line}; "
            "function=$(complete -p sesame | sed 's/.*-F \\([^ ]*\\).*/\\1/'); $function sesame; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", tried], check=False, capture_output=True, text=True)
        assert done.stderr == ""
        return set(done.stdout.split())

    assert {"remove", "report"} <= offered("sesame", "re") <= {words[0] for words in COMMANDS[1:]}
    assert offered("sesame", "bench", "st") == {"status"}
    assert "--fraction" in offered("sesame", "remove", "--")
