"""Layouts of folders and tables: what is a class, a part, a speaker, and what is not read."""

import csv
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from closesesame.core.errors import DataError
from closesesame.data.folders import decisive_files, list_recordings

from .clips import fill, parts, read, record, said

FLAT = [
    f"{word}/s{speaker}_nohash_{take}.wav"
    for word, speaker, take in product(("no", "yes"), range(12), (0, 1))
]


def test_silence_and_unknown_are_classes_and_noise_and_triggers_are_none(tmp_path: Path) -> None:
    fill(tmp_path, [*FLAT, *(name.replace("no/", "_unknown_/") for name in FLAT if name.startswith("no/"))])
    fill(tmp_path, [f"_silence_/s{speaker}_nohash_0.wav" for speaker in range(12)])
    fill(tmp_path, ["_background_noise_/tap.wav", "_trigger/sound.wav", "__MACOSX/no/._s0_nohash_0.wav"])
    (tmp_path / "_trigger" / "trigger.json").write_text("{}")
    report = read(tmp_path).report
    assert report.classes == ("_silence_", "_unknown_", "no", "yes")
    assert report.surprises() == []
    assert "_background_noise_ is noise, no class" in report.facts
    assert "_trigger is a trigger, no class" in report.facts


def test_folders_of_speakers_in_folders_of_classes(tmp_path: Path) -> None:
    names = [
        f"{word}/{speaker}/take {take}.wav"
        for word, speaker, take in product(("a", "b"), "ABCDEFGHIJ", (1, 2))
    ]
    fill(tmp_path, names)
    got = read(tmp_path)
    assert got.report.split == "speakers"
    assert sorted(parts(got.splits)) == sorted(names)
    assert set(got.splits.train.speakers or ()) < set("ABCDEFGHIJ")
    assert {(r.word, r.speaker, r.take) for r in list_recordings(tmp_path)} >= {("a", "A", 1), ("b", "J", 2)}


def test_the_name_of_speech_commands_says_more_than_a_folder(tmp_path: Path) -> None:
    fill(tmp_path, [name.replace("/", "/new/") for name in FLAT])
    assert {recording.speaker for recording in list_recordings(tmp_path)} == {f"s{n}" for n in range(12)}


@pytest.mark.parametrize(
    "names", [("train", "validation", "test"), ("Training", "val", "testing"), ("train", "dev", "test")]
)
@pytest.mark.parametrize("inside", [False, True])
def test_folders_of_parts_are_parts_and_no_classes(
    tmp_path: Path, names: tuple[str, ...], inside: bool
) -> None:
    wanted = {}
    for part, name in zip(("train", "validation", "test"), names, strict=True):
        for word, take in product(("no", "yes"), (0, 1)):
            path = f"{word}/{name}" if inside else f"{name}/{word}"
            wanted[f"{path}/{part}_{take}.wav"] = part
    got = read(fill(tmp_path, wanted))
    assert parts(got.splits) == wanted
    assert got.report.classes == ("no", "yes")
    assert (got.report.split, got.report.surprises()) == ("folders", [])


def test_a_validation_part_that_is_missing_is_drawn_from_the_training_part_by_speaker(tmp_path: Path) -> None:
    got = read(fill(tmp_path, [*(f"train/{name}" for name in FLAT), "test/no/t_0.wav", "test/yes/t_0.wav"]))
    assert "the parts of" in said(got.report)
    assert "name no validation part; 4 recordings were drawn from the training part" in said(got.report)
    assert [len(part) for part in got.splits] == [44, 4, 2]
    assert not set(got.splits.train.speakers or ()) & set(got.splits.validation.speakers or ())


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["train/a.wav", "test/b.wav"], "holds the parts test, train with recordings in no class folder"),
        (["train/no/a.wav", "train/yes/b.wav", "test/no/c.wav", "more/d.wav"], "test, train beside more"),
        (["a.wav", "b.wav"], r"holds no class folder but recordings \(a.wav, b.wav\)"),
        (["no/a.m4a", "yes/b.wav"], "no holds no recording but no/a.m4a, which cannot be read"),
    ],
)
def test_a_folder_that_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, names: list[str], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read(fill(tmp_path, names))


def test_words_that_are_called_like_parts_are_classes_beside_others(tmp_path: Path) -> None:
    fill(tmp_path, [f"{word}/{n:03}.wav" for word, n in product(("train", "test", "car"), range(4))])
    assert read(tmp_path).report.classes == ("car", "test", "train")


def test_what_is_not_read_is_said_with_its_reason(tmp_path: Path) -> None:
    fill(tmp_path, FLAT)
    for name in ("no/a.m4a", "no/b.wma", "yes/._s0_nohash_0.wav", "no/._b.wav", "notes.txt", "no/readme.md"):
        (tmp_path / name).touch()
    record(tmp_path / "beside.wav")
    (tmp_path / "no" / "gone.wav").symlink_to("nowhere.wav")
    (tmp_path / "no" / ".hidden").mkdir()
    report = read(tmp_path).report
    assert len(report.clips) == len(FLAT)
    formats, hidden, outside, link = report.surprises()
    assert formats.startswith("2 recordings were not read, since their formats are not supported")
    assert formats.endswith("(no/a.m4a, no/b.wma); convert them to WAV or FLAC")
    assert hidden.endswith("not read, since they are hidden files (no/._b.wav, yes/._s0_nohash_0.wav)")
    assert outside.endswith("not read, since it lies outside of the class folders (beside.wav)")
    assert link.endswith("not read, since it is a broken link or no file (no/gone.wav)")
    assert report.facts == ("other files in class folders: 1 .md",)


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", [name.removeprefix("no/") for name in FLAT if name.startswith("no/")])
    data = fill(tmp_path / "data", [name for name in FLAT if name.startswith("yes/")])
    (data / "no").symlink_to(tmp_path / "elsewhere")
    (data / "yes" / "again").symlink_to("..")
    assert len(read(data).report.clips) >= len(FLAT)
    (data / "yes" / "again").unlink()
    (data / "yes" / "again").symlink_to(".")
    assert len(read(data).report.clips) == len(FLAT)


@pytest.mark.parametrize("name", ["caf\udce9", "a\nb", "red\x1b[31m"])
def test_a_class_whose_name_cannot_be_shown_is_refused(tmp_path: Path, name: str) -> None:
    fill(tmp_path, ["yes/a.wav", "no/b.wav"])
    (tmp_path / "no").rename(tmp_path / name)
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert str(error.value).isprintable()
    str(error.value).encode()


def test_files_with_names_that_are_no_text_are_read(tmp_path: Path) -> None:
    fill(tmp_path, [*FLAT, "no/s3\udce9_nohash_0.wav", "no/line\nbreak_nohash_0.wav"])
    report = read(tmp_path).report
    assert {"no/s3\\udce9_nohash_0.wav", "no/line\nbreak_nohash_0.wav"} < {
        clip.note.id for clip in report.clips
    }
    str(report.as_json()).encode()


def test_a_folder_that_may_not_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, FLAT)

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        read(tmp_path)


Table = Callable[..., Path]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Writes recordings and `manifest.csv`: part, label, speaker for each path."""

    def write(
        rows: dict[str, tuple[str, ...]],
        header: tuple[str, ...] = ("path", "part", "label", "speaker"),
        *,
        sign: str = ",",
        encoding: str = "utf-8",
        name: str = "manifest.csv",
    ) -> Path:
        fill(tmp_path, [path for path in rows if not (tmp_path / path).exists()])
        with (tmp_path / name).open("w", newline="", encoding=encoding) as file:
            csv.writer(file, delimiter=sign).writerows(
                [header, *([path, *row] for path, row in rows.items())]
            )
        return tmp_path

    return write


PARTS = ("train", "train", "dev", "Test")
ROWS = {
    f"wavs/{label}{n}.wav": (part, label, f"{label}{n}")
    for label in ("ja", "nein, nie")
    for n, part in enumerate(PARTS)
}


@pytest.mark.parametrize(("sign", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16")])
@pytest.mark.parametrize(
    "header", [("path", "part", "label", "speaker"), ("File", "split", " Label", "speaker")]
)
def test_a_table_says_label_speaker_and_part(
    table: Table, sign: str, encoding: str, header: tuple[str, ...]
) -> None:
    folder = table(ROWS, header, sign=sign, encoding=encoding)
    got = read(folder)
    assert got.report.split == "manifest"
    assert got.report.surprises() == []
    assert got.report.classes == ("ja", "nein, nie")
    assert [len(part) for part in got.splits] == [4, 2, 2]
    assert set(got.splits.test.speakers or ()) == {"ja3", "nein, nie3"}
    again = read(folder / "manifest.csv")
    assert parts(again.splits) == parts(got.splits)


def test_a_table_without_parts_leaves_them_to_the_rules(table: Table) -> None:
    rows = {f"wavs/{n}.wav": (str(n % 2), f"who{n % 10}") for n in range(40)}
    got = read(table(rows, ("path", "label", "speaker")))
    assert (got.report.split, got.report.classes) == ("speakers", ("0", "1"))


def test_another_table_in_a_folder_is_no_matter(tmp_path: Path) -> None:
    fill(tmp_path, FLAT)
    (tmp_path / "manifest.csv").write_text("path,category\nno/x.wav,5\n")
    report = read(tmp_path).report
    assert report.split == "speakers"
    assert report.facts == ("manifest.csv is not used: it lacks a column 'path' or 'label'",)
    with pytest.raises(DataError, match="lacks a column 'path' or 'label'; its columns are path, category"):
        read(tmp_path / "manifest.csv")


def test_what_a_table_leaves_out_and_what_is_not_there_is_said(table: Table) -> None:
    rows = ROWS | {"wavs/more.m4a": ("train", "ja", "x")}
    folder = table(rows)
    (folder / "wavs" / "ja0.wav").unlink()
    record(folder / "wavs" / "extra.wav")
    record(folder / "loose.wav")
    text = said(read(folder).report)
    assert "1 of the files that" in text
    assert "names are not there (wavs/ja0.wav)" in text
    assert "are not in it and are left out (loose.wav, wavs/extra.wav)" in text
    assert "its format is not supported (wavs/more.m4a)" in text


@pytest.mark.parametrize(
    ("path", "row", "sentence"),
    [
        ("../secret.wav", ("train", "ja", "x"), r"row 10: '../secret.wav' is no path .* within the folder"),
        ("/etc/passwd", ("train", "ja", "x"), r"row 10: '/etc/passwd' is no path .* within the folder"),
        ("wavs/../../x.wav", ("train", "ja", "x"), "row 10: .* is no path"),
        ("", ("train", "ja", "x"), "row 10: '' is no path"),
        ("wavs/new.wav", ("train", "", "x"), "row 10 has no label"),
        (
            "wavs/new.wav",
            ("fold1", "ja", "x"),
            "row 10: part 'fold1' is not known; write train, validation or test",
        ),
        (
            "./wavs/ja0.wav",
            ("train", "nein", "x"),
            "row 10: wavs/ja0.wav stands there twice with other values",
        ),
        ("wavs/new.wav", ("train", "a\x1bb", "x"), "has a class 'a.x1bb'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(
    table: Table, path: str, row: tuple[str, ...], sentence: str
) -> None:
    folder = table(ROWS)
    if path.startswith("wavs/new"):
        record(folder / path)
    with (folder / "manifest.csv").open("a", newline="") as file:
        csv.writer(file).writerow([path, *row])
    with pytest.raises(DataError, match=sentence):
        read(folder)


def test_a_table_of_recordings_that_are_elsewhere_is_refused(table: Table) -> None:
    folder = table(ROWS)
    (folder / "wavs").rename(folder / "moved")
    with pytest.raises(
        DataError, match="names 0 recordings that can be read; 8 of 8 rows name files that are not there"
    ):
        read(folder)


def test_the_files_that_decide_are_named(tmp_path: Path, table: Table) -> None:
    assert decisive_files(fill(tmp_path / "plain", FLAT)) == []
    folder = table(ROWS)
    (folder / "testing_list.txt").touch()
    assert [path.name for path in decisive_files(folder)] == ["testing_list.txt", "manifest.csv"]
    assert decisive_files(folder / "manifest.csv") == [folder / "manifest.csv"]
    (folder / "manifest.csv").write_text("a,b\n")
    assert [path.name for path in decisive_files(folder)] == ["testing_list.txt"]


def test_a_table_may_name_a_part_of_what_lists_split(table: Table, tmp_path: Path) -> None:
    fill(tmp_path, FLAT)
    (tmp_path / "testing_list.txt").write_text("".join(f"{name}\n" for name in FLAT[::5]))
    (tmp_path / "validation_list.txt").write_text("".join(f"{name}\n" for name in FLAT[1::5]))
    rows = {f"wavs/{n}.wav": (str(n % 2), f"who{n % 10}") for n in range(40)}
    folder = table(rows, ("path", "label", "speaker"), name="mine.csv")
    got = read(folder / "mine.csv").report
    assert [row["clips"] for row in got.parts()] == [32, 4, 4]  # drawn: the lists name none of these
    some = {name: (name.split("/")[0], name.split("/")[1].split("_")[0]) for name in FLAT[:30]}
    folder = table(some, ("path", "label", "speaker"), name="some.csv")
    splits = read(folder / "some.csv").splits
    assert set(splits.test.ids) == set(FLAT[:30:5])
    assert set(splits.validation.ids) == set(FLAT[1:30:5])


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_a_table_may_end_its_lines_as_any_system_does(table: Table, end: str) -> None:
    folder = table(ROWS)
    text = (folder / "manifest.csv").read_text(encoding="utf-8").replace("\r\n", "\n")
    (folder / "manifest.csv").write_bytes(text.replace("\n", end).encode())
    assert [len(part) for part in read(folder).splits] == [4, 2, 2]
    assert [len(part) for part in read(folder / "manifest.csv").splits] == [4, 2, 2]


def test_a_table_whose_header_has_no_end_is_one_sentence(tmp_path: Path) -> None:
    fill(tmp_path, FLAT)
    (tmp_path / "manifest.csv").write_text('path,label,"' + "x" * 200_000)
    for source in (tmp_path, tmp_path / "manifest.csv"):
        with pytest.raises(DataError, match=r"manifest.csv is no CSV table \(field larger than"):
            read(source)


@pytest.mark.parametrize("name", ["eval", "holdout", "Tests"])
def test_a_part_under_another_name_is_refused(name: str, tmp_path: Path) -> None:
    fill(tmp_path, [f"train/{path}" for path in FLAT] + [f"{name}/{path}" for path in FLAT[:9]])
    with pytest.raises(DataError, match=f"holds a part train and {name} with the same class folders"):
        read(tmp_path)


def test_a_table_most_of_whose_files_are_gone_is_refused(table: Table) -> None:
    folder, names = table(ROWS), list(ROWS)
    for name in names[1:5]:
        (folder / name).unlink()
    assert len(list_recordings(folder / "manifest.csv")) == 4
    (folder / names[5]).unlink()
    with pytest.raises(DataError, match="names 3 recordings that can be read; 5 of 8 rows"):
        list_recordings(folder / "manifest.csv")


def test_a_table_with_a_column_of_speakers_says_all_that_is_known_of_them(table: Table) -> None:
    rows = {f"wavs/s{n % 10}_{n}.wav": (str(n % 2), "" if n == 3 else f"who{n % 10}") for n in range(40)}
    folder = table(rows, ("path", "label", "speaker"))
    speakers = {recording.id: recording.speaker for recording in list_recordings(folder)}
    assert speakers["wavs/s3_3.wav"] is None
    assert speakers["wavs/s4_4.wav"] == "who4"
