"""Outputs are tried first, appear whole or not at all, replace only what was given up, and are not lost."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from closesesame.core import disk
from closesesame.core.disk import Destination, new_folder, place, write_whole
from closesesame.core.errors import DataError, ModelError


def fill(text: str) -> Callable[[Path], object]:
    return lambda made: (made / "a.txt").write_text(text)


def test_a_folder_or_a_file_appears_whole(tmp_path: Path) -> None:
    assert (Destination(tmp_path / "x" / "y").write(fill("new")) / "a.txt").read_text() == "new"
    page = Destination(tmp_path / "p.html", kind="file").write(lambda made: made.write_text("page"))
    assert page.read_text() == "page"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.html", "x"]
    (tmp_path / "empty").mkdir()
    assert (Destination(tmp_path / "empty").write(fill("new")) / "a.txt").is_file()


def test_what_exists_is_refused_and_replaced_with_force(tmp_path: Path) -> None:
    Destination(tmp_path / "m").write(fill("old"))
    with pytest.raises(DataError, match="m exists and is not empty; choose another name, or replace it"):
        Destination(tmp_path / "m")
    forced = Destination(tmp_path / "m", force=True)
    assert (tmp_path / "m" / "a.txt").read_text() == "old"  # until there is something new
    forced.write(lambda made: (made / "b.txt").write_text("new"))
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["b.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    page = tmp_path / "page"
    page.write_text("old")
    with pytest.raises(DataError, match="page exists; choose another name, or replace it with --force"):
        Destination(page, kind="file")
    Destination(page, kind="file", force=True).write(lambda made: made.write_text("new"))
    assert page.read_text() == "new"


def test_force_replaces_only_what_the_command_makes(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="holds something else than this command makes"):
        Destination(tmp_path / "home", force=True, replaces=lambda path: (path / "a.txt").is_file())
    for kind, name in (("file", "home"), ("folder", "home/thesis.txt")):
        with pytest.raises(DataError, match="is a (folder|file), and a (file|folder) is to be made"):
            Destination(tmp_path / name, kind=kind, force=True)  # type: ignore[arg-type]
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def test_an_input_is_never_written_over(tmp_path: Path) -> None:
    given = tmp_path / "clips"
    (given / "yes").mkdir(parents=True)
    (tmp_path / "link").symlink_to(given)
    for out, sentence in (
        (given, "clips is what is read"),
        (tmp_path / "link", "link is what is read"),
        (tmp_path / "yes" / ".." / "clips", "is what is read"),
        (given / "out", "lies inside"),
        (tmp_path, "holds"),
    ):
        with pytest.raises(DataError, match=sentence):
            Destination(out, force=True, inputs=[given])
    Destination(given / "page.html", kind="file", inputs=[given])
    (given / "config.json").touch()
    with pytest.raises(DataError, match="config.json lies inside"):
        Destination(given / "config.json", kind="file", force=True, inputs=[given])
    Destination(tmp_path / "out", inputs=[given, tmp_path / "not there"])


def test_a_place_that_cannot_be_written_is_known_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        Destination(tmp_path / "file" / "m")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    with pytest.raises(DataError, match="needs 34 MB and .* has 1 MB left; make room"):
        Destination(tmp_path / "m")

    def refuse(*_: object) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(
        DataError, match="m cannot be written .*: Read-only file system.; choose another place"
    ):
        Destination(tmp_path / "m")


def test_what_cannot_be_written_in_the_end_is_kept_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(elsewhere))
    (tmp_path / "full").mkdir()

    def make(made: Path) -> None:
        if "full" in made.parts:
            (made / "half").write_text("half")
            raise OSError(28, "No space left on device")
        (made / "a.txt").write_text("all of it")

    with pytest.raises(DataError, match=r"m could not be written \(No space left on device\)") as caught:
        Destination(tmp_path / "full" / "m").write(make)
    kept = Path(str(caught.value).partition("kept in ")[2].partition(", move")[0])
    assert (kept / "a.txt").read_text() == "all of it"
    assert kept.is_relative_to(elsewhere)
    assert list((tmp_path / "full").iterdir()) == []


def test_an_error_of_its_own_stays_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "none")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "none"))

    def make(made: Path) -> None:
        raise DataError("class '/' cannot be a folder name; rename it")

    with pytest.raises(DataError, match="^class '/' cannot be a folder name; rename it$"):
        Destination(tmp_path / "m").write(make)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_waits_until_the_output_is_there(tmp_path: Path) -> None:
    def make(made: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        (made / "a.txt").write_text("all of it")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        Destination(tmp_path / "m").write(make)
    assert (tmp_path / "m" / "a.txt").read_text() == "all of it"
    assert signal.getsignal(signal.SIGINT) is before

    def stubborn(made: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Destination(tmp_path / "n").write(stubborn)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


KILLED = """
import sys, time
from pathlib import Path
from closesesame.core.disk import Destination, place
def half(made):
    (made / "a.txt").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
def make(made):
    place(made, half, kind="folder")
Destination(Path(sys.argv[1]), force=True).write(make)
"""


def test_a_kill_leaves_the_old_output_and_the_next_run_sweeps(tmp_path: Path) -> None:
    Destination(tmp_path / "m").write(fill("old"))
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "m"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()
    assert (tmp_path / "m" / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 3  # nobody can tidy up after kill -9 but the next one
    Destination(tmp_path / "m", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_swap_leaves_no_moment_without_either(tmp_path: Path) -> None:
    place(tmp_path / "m", fill("0"), kind="folder")
    script = (
        "import sys,time\nfrom pathlib import Path\np=Path(sys.argv[1])/'a.txt'\nmissing=0\n"
        "print('on',flush=True)\nend=time.monotonic()+1.0\n"
        "while time.monotonic()<end:\n    missing+=not p.is_file()\nprint(missing)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "m"], stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdout is not None
        watcher.stdout.readline()
        while watcher.poll() is None:
            place(tmp_path / "m", fill("1"), kind="folder")
            time.sleep(0.001)
        assert int(watcher.stdout.read()) == 0


def test_without_the_swap_of_the_system_the_old_one_goes_after_the_new_one_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_exchange", lambda *_: False)
    place(tmp_path / "m", fill("old"), kind="folder")
    place(tmp_path / "m", fill("new"), kind="folder")
    assert (tmp_path / "m" / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_text_is_replaced_whole(tmp_path: Path) -> None:
    write_whole("old", tmp_path / "deep" / "a.json")
    with pytest.raises(UnicodeEncodeError):
        write_whole("new \udcff", tmp_path / "deep" / "a.json")
    assert (tmp_path / "deep" / "a.json").read_text() == "old"
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_a_new_folder_vanishes_if_its_block_fails(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "m") as made:
        (made / "none" / "a.txt").touch()
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "m") as made:
        (made / "a.txt").touch()
    with pytest.raises(DataError, match="not empty"), new_folder(tmp_path / "m"):
        pass
    assert (tmp_path / "m" / "a.txt").exists()


def test_an_error_names_the_output_and_not_the_hidden_place_where_it_is_made(tmp_path: Path) -> None:
    def make(made: Path) -> None:
        raise ModelError(f"{made / 'config.json'} is wrong")

    with pytest.raises(ModelError, match=f"^{re.escape(str(tmp_path / 'm' / 'config.json'))} is wrong$"):
        place(tmp_path / "m", lambda made: place(made, make, kind="folder"), kind="folder")
