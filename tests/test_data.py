"""Data sets: rows without copies, splits, folders good and bad."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from closesesame.core.disk import new_folder
from closesesame.core.domain import PICTURES, SPEECH
from closesesame.core.encoding import Encoding
from closesesame.core.errors import DataError
from closesesame.data import Dataset, Splits, load_folder, load_splits, read_folder, read_splits
from closesesame.data.dataset import TEST, TRAIN, VALIDATION, assign_parts
from closesesame.data.export import export
from closesesame.data.folders import list_recordings
from closesesame.data.rows import OnDisk, Rows
from closesesame.data.stored import open_splits, store_splits


def test_rows_index_like_a_tensor_and_copy_nothing() -> None:
    source = torch.arange(40, dtype=torch.int16).view(10, 4)
    rows = Rows.of(source)
    assert rows.shape == (10, 4)
    assert torch.equal(rows[[2, 0]], source[[2, 0]].float() / 32_768)
    taken = rows.take(torch.tensor([9, 1]))
    assert taken.sources[0] is source
    assert torch.equal(taken[:], source[[9, 1]].float() / 32_768)


def test_sets_follow_each_other_without_a_copy(tones: Splits) -> None:
    first, second = tones.train.take(torch.tensor([5, 0])), tones.test.take(torch.tensor([7, 3, 1]))
    both = first.followed_by(second).followed_by(first)
    assert both.ids == first.ids + second.ids + first.ids
    assert both.labels.tolist() == [*first.labels.tolist(), *second.labels.tolist(), *first.labels.tolist()]
    expected = torch.cat([first.inputs[:], second.inputs[:], first.inputs[:]])
    assert torch.equal(both.inputs[:], expected)
    assert torch.equal(both.take(torch.tensor([3, 6])).inputs[:], expected[[3, 6]])
    assert both.inputs.sources[1] is tones.test.inputs.sources[0]
    speakers = replace(first, speakers=("a", "b"))
    assert speakers.followed_by(speakers).speakers == ("a", "b", "a", "b")
    assert speakers.followed_by(replace(second, speakers=None)).speakers is None
    with pytest.raises(DataError, match="the same sample_rate, got 8000 and 16000"):
        first.followed_by(replace(second, sample_rate=16_000))
    with pytest.raises(DataError, match="the same classes"):
        first.followed_by(replace(second, classes=second.classes[::-1]))


def test_replaced_rows_keep_the_resolution_and_leave_the_old_ones() -> None:
    rows = Rows.of(torch.zeros(5, 3, dtype=torch.int16))
    new = rows.replace(torch.tensor([4, 1]), torch.tensor([[0.5] * 3, [2.0] * 3]))
    assert new.sources[1].dtype == torch.int16
    assert new[:].tolist() == [[0.0] * 3, [32_767 / 32_768] * 3, [0.0] * 3, [0.0] * 3, [0.5] * 3]
    assert rows[:].abs().max() == 0
    again = new.take(torch.tensor([4, 0])).replace(torch.tensor([0]), torch.ones(1, 3) / 4)
    assert again[:].tolist() == [[0.25] * 3, [0.0] * 3]


def test_encodings_round_to_the_nearest_and_keep_what_they_made() -> None:
    sounds, pictures = Encoding.of(SPEECH.stored), Encoding.of(PICTURES.stored)
    values = torch.tensor([-2.0, -1.0, -0.5, 0.0, 1.4 / 32_768, 1.6 / 32_768, 0.5, 1.0, 1e38])
    assert sounds.encode(values).tolist() == [-32_768, -32_768, -16_384, 0, 1, 2, 16_384, 32_767, 32_767]
    values = torch.tensor([-0.1, 0.0, 0.4 / 255, 0.6 / 255, 0.5, 1.0, 2.0])
    assert pictures.encode(values).tolist() == [0, 0, 0, 1, 128, 255, 255]  # 127.5 goes to the even one
    for encoding in (sounds, pictures):
        limits = torch.iinfo(encoding.stored)
        every = torch.arange(limits.min, limits.max + 1).to(encoding.stored)
        assert torch.equal(encoding.encode(encoding.decode(every)), every)
        assert encoding.decode(every).dtype == torch.float32
    floats = torch.tensor([1.5, -3.0])
    assert Encoding.of(torch.float32).encode(floats) is floats
    assert Encoding.of(torch.float32).decode(floats) is floats


def test_a_large_set_stays_on_disk(folder_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of({"yes": 24, "no": 24})
    kept = load_folder(folder, sample_rate=8000, duration_s=0.5)
    monkeypatch.setattr("closesesame.data.reading.IN_MEMORY_BYTES", 0)
    large = load_folder(folder, sample_rate=8000, duration_s=0.5)
    assert isinstance(large.inputs.sources[0], OnDisk)
    assert torch.equal(large.inputs[:], kept.inputs[:])
    part = large.where(large.labels == 1).sample(0.5, 0)
    assert part.inputs.sources[0] is large.inputs.sources[0]
    assert torch.equal(part.inputs[[3, 0]], kept.inputs[[kept.ids.index(part.ids[row]) for row in (3, 0)]])
    changed = part.inputs.replace(torch.tensor([1]), torch.full((1, 4000), 0.25))
    assert changed[[1]].tolist() == [[0.25] * 4000]


def test_a_stored_set_is_opened_again(tones: Splits, tmp_path: Path) -> None:
    store_splits(tones, tmp_path)
    back = open_splits(tmp_path)
    for part, again in zip(tones, back, strict=True):
        assert (again.inputs[:] - part.inputs[:]).abs().max() < 1 / 60_000
        assert torch.equal(again.labels, part.labels)
        assert (again.ids, again.classes, again.speakers, again.sample_rate) == (
            part.ids,
            part.classes,
            part.speakers,
            part.sample_rate,
        )


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.37])
def test_shares_are_drawn_from_each_class_in_proportion(tones: Splits, fraction: float) -> None:
    rest, share = tones.train.split(fraction, 7)
    assert abs(len(share) - fraction * len(tones.train)) < 1
    assert all(abs(count - fraction * 80) <= 1 for count in share.counts())
    assert sorted(rest.ids + share.ids) == sorted(tones.train.ids)
    assert tones.train.sample(fraction, 7).ids == share.ids
    assert tones.train.sample(fraction, 8).ids != share.ids


def spoken(speakers: str, labels: list[int]) -> Dataset:
    """A clip a letter, by the speaker of that letter."""
    return Dataset.of(torch.zeros(len(labels), 4), torch.tensor(labels), speakers=list(speakers))


def test_whole_speakers_are_held_out() -> None:
    # Two of ten clips are wanted. The speaker of seven is too many, the one of three is nearer than none, and
    # after that one nobody brings the share nearer.
    data = spoken("AAAAAAABBB", [0, 1, 0, 1, 0, 1, 0, 0, 1, 0])
    for seed in range(4):
        rest, held_out = data.hold_out(0.2, seed)
        assert (rest.speakers, held_out.speakers) == (tuple("AAAAAAA"), tuple("BBB"))
        assert sorted(rest.ids + held_out.ids) == sorted(data.ids)
    many = spoken("ABCDEFGHIJ" * 2, [0] * 10 + [1] * 10)
    held = [many.hold_out(0.3, seed) for seed in range(8)]
    for rest, held_out in held:
        assert len(held_out) == 6
        assert not set(rest.speakers or ()) & set(held_out.speakers or ())
    assert len({held_out.ids for _, held_out in held}) > 3  # the seed draws them
    assert many.hold_out(0.3, 5)[1].ids == held[5][1].ids


def test_each_class_stays_in_the_rest_and_without_speakers_to_spare_clips_are_drawn() -> None:
    # B alone says the second word, so only A or C can go.
    data = spoken("AABBCC", [0, 0, 1, 1, 0, 0])
    for seed in range(8):
        rest, held_out = data.hold_out(0.33, seed)
        assert set(held_out.speakers or ()) in ({"A"}, {"C"})
        assert rest.counts() == (2, 2)
    # One speaker; two speakers of whom each is too many or says a word of their own; no speakers known.
    alone, two = spoken("AAAAAAAAAA", [0, 1] * 5), spoken("AAAAABBBBB", [0, 1] * 5)
    own = spoken("AAAAAAAABB", [0] * 8 + [1] * 2)
    unknown = Dataset.of(torch.zeros(10, 4), torch.tensor([0, 1] * 5))
    for data in (alone, two, own, unknown):
        rest, held_out = data.hold_out(0.2, 3)
        assert [part.ids for part in (rest, held_out)] == [part.ids for part in data.split(0.2, 3)]
        assert len(held_out) == 2


def test_a_class_keeps_a_clip_in_the_rest_and_clips_may_be_drawn_where_speakers_are_known() -> None:
    single = Dataset.of(torch.zeros(12, 4), torch.tensor([0] * 10 + [1, 2]))
    for seed in range(8):
        rest, held_out = single.hold_out(0.5, seed)
        assert rest.counts()[1:] == (1, 1)
        assert held_out.counts() == (5, 0, 0)
        assert sorted(rest.ids + held_out.ids) == sorted(single.ids)
    assert all(len(single.hold_out(1.0, seed)[0]) == 3 for seed in range(3))
    many = spoken("ABCDEFGHIJ" * 2, [0] * 10 + [1] * 10)
    parts = many.hold_out(0.3, 5, by_clip=True)
    assert [part.ids for part in parts] == [part.ids for part in many.split(0.3, 5)]
    assert [part.ids for part in parts] != [part.ids for part in many.hold_out(0.3, 5)]


def test_wrong_parts_are_refused() -> None:
    wav, labels = torch.zeros(3, 8), torch.tensor([0, 1, 1])
    with pytest.raises(DataError, match="example 1 holds NaN"):
        Dataset.of(wav.index_fill(0, torch.tensor([1]), float("nan")), labels)
    with pytest.raises(DataError, match="indices below 1"):
        Dataset.of(wav, labels, classes=["a"])
    with pytest.raises(DataError, match="speakers must have one entry a label: 3, got 1"):
        Dataset.of(wav, labels, speakers=["x"])
    data = Dataset.of(wav, labels, classes=["yes", "no"])
    assert (data.label_of("no"), data.label_of(0), data.label_of("1")) == (1, 0, 1)
    with pytest.raises(DataError, match="did you mean 'yes'"):
        data.label_of("yess")


def test_classes_are_matched_by_name() -> None:
    data = Dataset.of(torch.zeros(2, 4), torch.tensor([0, 1]), classes=["no", "yes"])
    assert data.with_classes(["maybe", "yes", "no"]).labels.tolist() == [2, 1]
    with pytest.raises(DataError, match="class 'no' is not among"):
        data.with_classes(["yes", "maybe"])


def test_a_folder_of_class_folders(folder_of: Callable[..., Path]) -> None:
    folder = folder_of({"yes": 12, "no": 12}, rate=16_000, seconds=0.25)
    (folder / "_background_noise_").mkdir()
    (folder / ".hidden").mkdir()
    (folder / "yes" / "notes.txt").write_text("not a recording")
    data = load_folder(folder, sample_rate=8000, duration_s=0.5)
    assert data.classes == ("no", "yes")
    assert data.input_shape == (4000,)
    assert data.counts() == (12, 12)
    assert data.inputs[:][:, 2000:].abs().max() == 0  # padded with silence
    assert data.inputs[:][:, :1900].abs().amax(1).min() > 0.15


def test_a_48_khz_stereo_24_bit_clip_and_a_hostile_class_name(folder_of: Callable[..., Path]) -> None:
    folder = folder_of({"<script>": 3, "yes": 3})
    wave = np.sin(np.arange(48_000) / 10)[:, None].repeat(2, 1) / 2
    soundfile.write(folder / "<script>" / "studio.wav", wave, 48_000, subtype="PCM_24")
    data = read_folder(folder, sample_rate=8000, duration_s=0.5).data
    assert data.classes == ("<script>", "yes")
    row = data.ids.index("<script>/studio.wav")
    assert float(data.inputs[[row]].abs().max()) == pytest.approx(0.5, abs=0.02)


def test_a_folder_of_every_format_is_one_set_and_noise_is_no_class(tmp_path: Path) -> None:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 16_000)
    for word in ("no", "yes", "_background_noise_"):
        (tmp_path / word).mkdir()
        for take, suffix in enumerate(("wav", "flac", "ogg", "mp3")):
            soundfile.write(tmp_path / word / f"0ff5c9fa_nohash_{take}.{suffix}", wave, 16_000)
        (tmp_path / word / "notes.txt").touch()
    data = read_folder(tmp_path, sample_rate=16_000, duration_s=0.5).data
    assert (data.classes, data.counts()) == (("no", "yes"), (4, 4))
    assert set(data.speakers or ()) == {"0ff5c9fa"}
    spectra = torch.fft.rfft(data.inputs[:][:, 2_000:6_000]).abs()
    assert set(spectra.argmax(1).tolist()) == {110}


def no_class(folder: Path) -> Path:
    return folder


def one_class(folder: Path) -> Path:
    (folder / "yes").mkdir()
    soundfile.write(folder / "yes" / "a.wav", np.zeros(100), 8000)
    return folder


def empty_class(folder: Path) -> Path:
    (folder / "no").mkdir()
    return one_class(folder)


def text_as_wav(folder: Path) -> Path:
    one_class(folder)
    (folder / "no").mkdir()
    for name in "cdef":
        soundfile.write(folder / "no" / f"{name}.wav", np.zeros(100), 8000)
        soundfile.write(folder / "yes" / f"{name}.wav", np.zeros(100), 8000)
    (folder / "no" / "b.wav").write_text("hello")
    return folder


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (no_class, "holds no class folder"),
        (one_class, "has one class, 'yes'; two are needed: add recordings of another"),
        (empty_class, "no holds no recording"),
        (text_as_wav, "b.wav is not readable audio"),
        (lambda folder: folder / "nowhere", "is not a folder"),
        (lambda folder: Path(__file__), "is not a folder"),
    ],
)
def test_a_bad_folder_is_one_sentence(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_splits(make(tmp_path))


def test_parts_are_assigned_in_order_and_never_leave_a_set() -> None:
    assert assign_parts("abcde", 1, 2) == {
        "a": TEST,
        "b": VALIDATION,
        "c": VALIDATION,
        "d": TRAIN,
        "e": TRAIN,
    }
    assert assign_parts("abc", 0, 0) == dict.fromkeys("abc", TRAIN)
    assert assign_parts("ab", 1, 2) == {"a": TEST, "b": VALIDATION}
    data = spoken("ABC", [0, 1, 0])
    splits = Splits.of(data, [TEST, TRAIN, VALIDATION])
    assert [part.speakers for part in splits] == [("B",), ("C",), ("A",)]


def test_split_rules(folder_of: Callable[..., Path]) -> None:
    folder = folder_of({"yes": 36, "no": 36})
    by_speaker = load_splits(folder, sample_rate=8000, duration_s=0.5, split="speakers")
    parts = [set(part.speakers or ()) for part in by_speaker]
    assert [len(part) for part in parts] == [10, 1, 1]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    by_take = load_splits(folder, sample_rate=8000, duration_s=0.5, task="speaker")
    assert len(by_take.train.classes) == 12
    assert {i.rpartition("_")[2] for i in by_take.test.ids} == {"0.wav"}
    assert {i.rpartition("_")[2] for i in by_take.validation.ids} == {"1.wav"}
    at_random = load_splits(folder, sample_rate=8000, duration_s=0.5, split="random", seed=1)
    assert [len(part) for part in at_random] == [56, 8, 8]
    with pytest.raises(DataError, match="validation_list.txt is missing"):
        load_splits(folder, split="lists")
    with pytest.raises(DataError, match="speakers cannot be the label"):
        load_splits(folder, split="speakers", task="speaker")


def test_official_lists_are_kept(folder_of: Callable[..., Path]) -> None:
    folder = folder_of({"yes": 12, "no": 12})
    (folder / "validation_list.txt").write_text("yes/s0_nohash_0.wav\nno/s1_nohash_0.wav\n")
    (folder / "testing_list.txt").write_text("no/s2_nohash_0.wav\nyes/s2_nohash_0.wav\n")
    splits = read_splits(folder, sample_rate=8000, duration_s=0.5).splits
    assert [len(part) for part in splits] == [20, 2, 2]
    assert set(splits.test.ids) == {"no/s2_nohash_0.wav", "yes/s2_nohash_0.wav"}


def test_an_exported_set_is_read_back_sample_by_sample(tones: Splits, tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as made:
        export(tones, made)
    back = read_splits(tmp_path / "out", sample_rate=8000, duration_s=0.5).splits
    assert [len(part) for part in back] == [len(part) for part in tones]
    manifest = (tmp_path / "out" / "manifest.csv").read_text().splitlines()
    originals = {line.split(",")[0]: line.split(",")[3] for line in manifest[1:]}
    rows = {name: row for row, name in enumerate(tones.test.ids)}
    for row, name in enumerate(back.test.ids):
        there = rows[originals[name]]
        assert (back.test.inputs[[row]] - tones.test.inputs[[there]]).abs().max() < 1 / 32_000
    assert back.test.counts() == tones.test.with_classes(back.test.classes).counts()


def test_nothing_half_written_stays(tones: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("closesesame.data.export.files.write", lambda *_: (_ for _ in ()).throw(OSError()))
    with pytest.raises(DataError, match="cannot be written"), new_folder(tmp_path / "out") as made:
        export(tones, made)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").touch()
    with pytest.raises(DataError, match="not empty"), new_folder(tmp_path / "full"):
        pass
    assert (tmp_path / "full" / "kept").exists()


def test_real_speech_commands_layout(real: Path) -> None:
    splits = read_splits(real / "speech_commands_300").splits
    assert len(splits.train.classes) == 30
    assert "_background_noise_" not in splits.train.classes
    assert sum(map(len, splits)) == 300
    assert splits.train.speakers is not None
    assert all(len(speaker) == 8 for speaker in splits.train.speakers)


def test_real_lists_keep_speakers_apart(real: Path) -> None:
    splits = load_splits(real / "keywords10")
    assert [len(part) for part in splits] == [2330, 400, 600]
    assert [len(set(part.speakers or ())) for part in splits] == [24, 4, 6]
    assert not set(splits.train.speakers or ()) & set(splits.test.speakers or ())
    assert len(list_recordings(real / "fsdd")) == 3000


def test_real_takes_are_the_official_split(real: Path) -> None:
    official = {
        line.split(",")[0]
        for line in (real / "fsdd" / "manifest.csv").read_text().splitlines()
        if line.endswith(",test")
    }
    splits = read_splits(real / "fsdd", sample_rate=8000, split="takes").splits
    assert set(splits.test.ids) == official
