"""What is written is read back; what stays is what it was, whatever is beside it or is renamed."""

import csv
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from closesesame.core.disk import new_folder
from closesesame.core.errors import DataError
from closesesame.data import Dataset, Splits
from closesesame.data.export import export

from .clips import FEW, RATE, fill, parts, read

CLASSES = ("turn on", "für immer", 'say "no", now', "_silence_", "a;b\\c", "train", "test")
SPEAKERS = ("Ana Sol", "o'Brien, Jr.", "müde", 'the "boss"', "plain")


def made(seed: int, n: int, classes: tuple[str, ...], speakers: tuple[str, ...] | None) -> Dataset:
    """Noise; every class and speaker has clips."""
    rng = torch.Generator().manual_seed(seed)
    wave = torch.randint(-9000, 9000, (n, FEW), generator=rng) / 32_768
    who = None if speakers is None else [speakers[row % len(speakers)] for row in range(n)]
    labels = torch.arange(n) % len(classes)
    return Dataset.of(wave, labels, classes=classes, sample_rate=RATE, speakers=who)


def splits_of(classes: tuple[str, ...], speakers: tuple[str, ...] | None) -> Splits:
    size = len(classes) * (1 if speakers is None else len(speakers))
    return Splits(*(made(seed, size, classes, speakers) for seed in range(3)))


def content(data: Dataset) -> list[tuple[str, str, list[float]]]:
    """Class, speaker and samples of each clip, sorted."""
    speakers = data.speakers or [""] * len(data)
    labels = [data.classes[label] for label in data.labels.tolist()]
    return sorted(zip(labels, speakers, data.inputs[:].tolist(), strict=True))


def written(splits: Splits, folder: Path) -> Path:
    with new_folder(folder) as made_folder:
        export(splits, made_folder)
    return folder


@pytest.mark.parametrize(
    "speakers", [None, SPEAKERS, ("../../x", "a/b", "ok", ".hidden", "w" * 300, "new\nline")]
)
def test_parts_labels_speakers_and_samples_are_read_back(
    tmp_path: Path, speakers: tuple[str, ...] | None
) -> None:
    splits = splits_of(CLASSES, speakers)
    got = read(written(splits, tmp_path / "out"))
    assert got.report.split == "manifest"
    for one, two in zip(splits, got.splits, strict=True):
        assert content(one) == content(two)
        assert (one.speakers is None) == (two.speakers is None)
    assert {path.parent.parent for path in tmp_path.rglob("*.flac")} == {tmp_path / "out"}


def test_the_lists_that_are_written_are_read_without_the_table(tmp_path: Path) -> None:
    splits = splits_of(CLASSES[:5], SPEAKERS)
    folder = written(splits, tmp_path / "out")
    (folder / "manifest.csv").unlink()
    got = read(folder)
    assert got.report.split == "lists"
    for one, two in zip(splits, got.splits, strict=True):
        assert content(one) == content(two)


def test_what_was_read_and_written_is_read_again(tmp_path: Path) -> None:
    first = read(
        fill(tmp_path / "a", [f"{w}/s{n}_nohash_0.wav" for w, n in product(("no", "yes"), range(12))])
    )
    second = read(written(first.splits, tmp_path / "b"))
    assert second.report.surprises() == []
    for one, two in zip(first.splits, second.splits, strict=True):
        assert content(one) == content(two)


def copied(splits: Splits, folder: Path, **settings: object) -> dict[str, str]:
    """The path of each clip in a copy, by its own; the copy is read again as it was written."""
    with new_folder(folder) as made_folder:
        export(splits, made_folder, **settings)  # type: ignore[arg-type]
    got = read(folder).splits
    for one, two in zip(splits, got, strict=True):
        assert content(one) == content(two)
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return {row["original"]: row["path"] for row in csv.DictReader(file)}


TAKES = [f"{word}/s{who}_nohash_{take}" for word in ("no", "yes") for who in range(12) for take in (0, 3, 7)]


@pytest.mark.parametrize("suffix", ["wav", "flac", "WAV"])
def test_a_copy_keeps_the_paths_of_clips_whatever_is_left_out(tmp_path: Path, suffix: str) -> None:
    splits = read(fill(tmp_path / "a", [f"{take}.{suffix}" for take in TAKES])).splits
    fewer = Splits(splits.train.where(torch.arange(len(splits.train)) % 3 != 0), *splits[1:])
    for number, some in enumerate((splits, fewer)):
        paths = copied(some, tmp_path / str(number))
        assert paths == {name: name for part in some for name in part.ids}
        again = read(tmp_path / str(number)).splits
        assert [set(part.ids) for part in again] == [set(part.ids) for part in some]
    assert len(fewer.train) < len(splits.train)


def test_a_clip_with_another_label_gets_a_name_that_no_clip_had(tmp_path: Path) -> None:
    names = [f"{take}.wav" for take in TAKES]
    splits = read(fill(tmp_path / "a", names)).splits
    train = splits.train
    changed = torch.arange(len(train)) % 4 == 0
    splits = splits._replace(train=train.with_labels(torch.where(changed, 1 - train.labels, train.labels)))
    # One that was left out before has a name, too.
    rest = splits._replace(train=splits.train.where(torch.arange(len(train)) % 3 != 0))
    for number, some in enumerate((splits, rest)):
        paths = copied(some, tmp_path / str(number), originals=names)
        moved = {name for name, is_changed in zip(train.ids, changed.tolist(), strict=True) if is_changed}
        assert {name for name in paths if paths[name] != name} == moved & paths.keys()
        assert not {paths[name] for name in moved & paths.keys()} & set(names)
        assert len({*paths.values()}) == len(paths)


def test_only_what_cannot_stay_where_it_was_is_moved(tmp_path: Path) -> None:
    names = [
        f"{word}/s{who}_nohash_{take}.wav" for word in ("no", "yes") for who in range(12) for take in (0, 1)
    ]
    folder = fill(
        tmp_path / "a", [*names, "no/ada/1.wav", "no/ada/2.wav", "yes/x.ogg", "yes/x.wav", "yes/y.ogg"]
    )
    splits = read(folder).splits
    assert {name for name, path in copied(splits, tmp_path / "b").items() if name != path} == {
        "yes/x.ogg",
        "yes/y.ogg",
    }
    one = copied(splits, tmp_path / "c")
    assert one["yes/y.ogg"] == "yes/y.flac"
    assert one["yes/x.wav"] == "yes/x.wav"
    parted = [
        f"{part}/{word}/{name}.wav"
        for part in ("train", "validation", "test")
        for word in ("no", "yes")
        for name in ("same", f"of_{part}", "s1_nohash_1")
    ]
    found = copied(read(fill(tmp_path / "d", parted)).splits, tmp_path / "e")
    assert found["test/no/of_test.wav"] == "no/of_test.wav"
    assert found["train/no/same.wav"] == "no/same.wav"
    assert len({*found.values()}) == len(parted)


def test_recordings_that_a_table_names_keep_their_paths_and_speakers(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    names = [f"{word}/{number}.wav" for word in ("no", "yes") for number in range(6)]
    elsewhere = [f"clips/{number}.wav" for number in range(20, 26)]
    fill(folder, [*names, *elsewhere])
    rows = [f"{name},{name.split('/')[0]},s{number % 4}" for number, name in enumerate(names)]
    rows += [f"{name},no,s{number % 4}" for number, name in enumerate(elsewhere)]
    (folder / "manifest.csv").write_text("\n".join(["path,label,speaker", *rows]))
    paths = copied(read(folder).splits, tmp_path / "b")
    assert {name: paths[name] for name in names} == {name: name for name in names}
    assert all(paths[name].startswith("no/s") for name in elsewhere)


def test_few_names_that_seem_to_say_who_speaks_say_nothing_in_a_copy(tmp_path: Path) -> None:
    names = [f"{word}/{letter}.wav" for word in ("no", "yes") for letter in "abcdefgh"]
    splits = read(fill(tmp_path / "a", [*names, *(f"no/take_{number}.wav" for number in range(9))])).splits
    assert splits.train.speakers is None
    few = splits._replace(
        train=splits.train.named([n for n in splits.train.ids if "take" in n or "yes" in n][:9])
    )
    takes = [name for part in few for name in part.ids if "take" in name]
    assert 2 * len(takes) >= sum(map(len, few))
    assert copied(few, tmp_path / "b") == {name: name for part in few for name in part.ids}
    assert read(tmp_path / "b").splits.train.speakers is None


@pytest.mark.parametrize(
    "name", ["a/b", "..", ".x", " x", "x ", "_background_noise_", "_trigger2", "a\nb", "", "\udce9"]
)
def test_a_class_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be a folder name; rename it|printable characters"):
        written(splits_of(("good", name), None), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", ["soundfile.write", "pathlib.Path.write_text", "pathlib.Path.mkdir"])
def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    splits = splits_of(("a", "b"), None)
    (tmp_path / "made").mkdir()
    monkeypatch.setattr(broken, full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)"):
        export(splits, tmp_path / "made")


def test_a_folder_that_could_not_be_written_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = splits_of(("a", "b"), None)
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(DataError, match=r"cannot be written \(full\)"):
        written(splits, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


NAMES = [
    f"{word}/s{who}_nohash_{take}.wav" for word, who, take in product(("no", "turn on"), range(11), (0, 1))
]
JUNK = st.sampled_from(
    [
        "notes.txt",
        "loose.wav",
        ".DS_Store",
        ".git/x.wav",
        "__MACOSX/no/._x.wav",
        "_background_noise_/n.wav",
        "no/readme.md",
        "no/._s0_nohash_0.wav",
        "no/s3_nohash_9.m4a",
        "turn on/x.wav.part",
    ]
)

FOLDERS = ["data", "Daten für später", "a,b", "train"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return parts(read(fill(tmp_path_factory.mktemp("reference"), NAMES)).splits)


@settings(max_examples=15, deadline=None)
@given(
    st.permutations(NAMES),
    st.sets(JUNK),
    st.sampled_from(["data", "Daten für später", "a,b", "train"]),
    st.booleans(),
)
def test_order_junk_and_the_name_of_the_folder_change_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    reference: dict[str, str],
    order: list[str],
    junk: set[str],
    folder: str,
    bad: bool,
) -> None:
    place = fill(tmp_path_factory.mktemp("again") / folder, [*order, *junk])
    if bad:
        (place / "no" / "s5_nohash_7.wav").write_bytes(b"no sound")
    got = read(place, skip_bad=True)
    assert parts(got.splits) == reference
    assert got.splits.train.classes == ("no", "turn on")


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from(NAMES), unique=True, max_size=6))
def test_a_take_that_is_renamed_changes_no_other_clip(
    tmp_path_factory: pytest.TempPathFactory, reference: dict[str, str], renamed: list[str]
) -> None:
    new = {name: name.replace("_nohash_", "_nohash_7") for name in renamed}
    found = parts(
        read(fill(tmp_path_factory.mktemp("again"), [new.get(name, name) for name in NAMES])).splits
    )
    assert found == {new.get(name, name): part for name, part in reference.items()}
