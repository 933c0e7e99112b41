"""What a killed run leaves for the next one."""

from pathlib import Path

from closesesame.core.unfinished import Unfinished


def test_parts_are_known_by_name_and_key_and_vanish_in_the_end(tmp_path: Path) -> None:
    kept = Unfinished(tmp_path / "new" / "out")
    kept.keep("model", "k1", lambda made: (made / "weights").write_text("1"))
    kept.keep("model", "k2", lambda made: (made / "weights").write_text("2"))
    kept.keep("model", "k2", lambda made: (made / "weights").write_text("3"))
    assert kept.folder == tmp_path / "new" / "out.unfinished"
    assert (kept.part("model", "k1") / "weights").read_text() == "1"
    assert (kept.part("model", "k2") / "weights").read_text() == "3"
    assert not kept.part("model", "k3").exists()
    kept.forget("model", "scores")
    assert list((tmp_path / "new").iterdir()) == []
    kept.forget("model")


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    kept = Unfinished(tmp_path / "out")
    kept.keep("scores", "k", lambda made: (made / "s").write_text("1"))
    (kept.folder / "thesis.txt").write_text("years of work")
    kept.forget("scores")
    assert [path.name for path in kept.folder.iterdir()] == ["thesis.txt"]


def test_a_disk_that_takes_nothing_costs_no_work(tmp_path: Path) -> None:
    (tmp_path / "out.unfinished").write_text("a file")
    kept = Unfinished(tmp_path / "out")
    kept.keep("scores", "k", lambda made: (made / "s").write_text("1"))
    kept.forget("scores")
    assert (tmp_path / "out.unfinished").read_text() == "a file"


def test_a_part_is_whole_or_not_there(tmp_path: Path) -> None:
    kept = Unfinished(tmp_path / "out")

    def fails(made: Path) -> None:
        (made / "half").write_text("1")
        raise OSError("disk full")

    kept.keep("scores", "k", fails)
    assert list(kept.folder.iterdir()) == []
