"""What is written is read back; what stays is what it was, whatever is beside it or is renamed."""

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
