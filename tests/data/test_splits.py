"""Lists and rules: no clip in two parts, no class without training clips, nothing chosen in silence."""

from collections import defaultdict
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from closesesame.core.errors import DataError
from closesesame.data import Splits
from closesesame.data.folders import SplitRule

from .clips import fill, parts, read, said

WORDS = ("turn on", "für immer")
CLIPS = [f"{word}/Ana Sol{who}_nohash_{take}.wav" for word, who, take in product(WORDS, range(12), (0, 1))]
TEST = [name for name in CLIPS if "Sol3_" in name or "Sol4_" in name]
CHECK = [name for name in CLIPS if "Sol5_" in name]


def listed(folder: Path, validation: bytes | None, test: bytes | None) -> Path:
    fill(folder, CLIPS)
    for name, content in (("validation_list.txt", validation), ("testing_list.txt", test)):
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


def lines(names: list[str], encoding: str = "utf-8", end: str = "\n", before: str = "") -> bytes:
    return "".join(f"{before}{name}{end}" for name in names).encode(encoding)


WAYS: dict[str, Callable[[list[str]], bytes]] = {
    "plain": lines,
    "with a mark": lambda names: lines(names, "utf-8-sig"),
    "utf-16": lambda names: lines(names, "utf-16"),
    "of windows": lambda names: lines([name.replace("/", "\\") for name in names], end="\r\n"),
    "from here": lambda names: lines(names, before="./"),
    "with blanks": lambda names: lines(names, end="  \n\n"),
    "decomposed": lambda names: lines([name.replace("ü", "u\u0308") for name in names]),
    "without an end": lambda names: lines(names).rstrip(b"\n"),
}


@pytest.mark.parametrize("way", WAYS)
def test_names_with_spaces_and_accents_are_found_in_lists_however_they_are_written(
    tmp_path: Path, way: str
) -> None:
    got = read(listed(tmp_path, WAYS[way](CHECK), WAYS[way](TEST)))
    found = parts(got.splits)
    assert got.report.split == "lists"
    assert got.report.surprises() == []
    assert {name for name in CLIPS if found[name] == "test"} == set(TEST)
    assert {name for name in CLIPS if found[name] == "validation"} == set(CHECK)


def test_entries_that_name_no_clip_are_said(tmp_path: Path) -> None:
    more = ["turn on/gone_nohash_0.wav", "other words/x_nohash_0.wav", "other words/y_nohash_0.wav"]
    text = said(read(listed(tmp_path, lines(CHECK), lines(TEST + more))).report)
    assert "testing_list.txt has 1 entry without a recording here: turn on/gone_nohash_0.wav" in text
    assert (
        "has 2 entries of classes that are not here: other words/x_nohash_0.wav, other words/y_nohash_0"
        in text
    )


def test_a_list_of_a_larger_set_of_classes_fits(tmp_path: Path) -> None:
    foreign = [f"other/{n}_nohash_0.wav" for n in range(100)]
    found = parts(read(listed(tmp_path, lines(CHECK), lines(TEST + foreign))).splits)
    assert {name for name in CLIPS if found[name] == "test"} == set(TEST)


@pytest.mark.parametrize("prefix", ["data/", "/home/me/data/", "other/"])
def test_a_list_that_fits_badly_is_refused_with_an_entry(tmp_path: Path, prefix: str) -> None:
    folder = listed(tmp_path, lines(CHECK), lines([f"{prefix}{name}" for name in TEST]))
    with pytest.raises(DataError, match="testing_list.txt does not fit: 8 of 8 entries") as error:
        read(folder)
    assert f"such as '{prefix}{TEST[0]}' (a recording here: '{min(CLIPS)}')" in str(error.value)


def test_a_list_of_which_most_is_gone_is_refused(tmp_path: Path) -> None:
    gone = [name.replace("_nohash_", "_nohash_9") for name in TEST]
    with pytest.raises(DataError, match="testing_list.txt does not fit: 8 of 10 entries"):
        read(listed(tmp_path, lines(CHECK), lines([*gone, *TEST[:2]])))


def test_half_a_list_by_another_path_is_refused(tmp_path: Path) -> None:
    mixed = [f"data/{name}" for name in TEST[:5]] + TEST[5:]
    with pytest.raises(DataError, match="testing_list.txt does not fit: 5 of 8"):
        read(listed(tmp_path, lines(CHECK), lines(mixed)))


def test_a_list_in_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    folder = listed(tmp_path, lines(CHECK), lines(["turn on/x.wav", "für immer/x.wav"], "latin-1"))
    with pytest.raises(
        DataError, match=r"testing_list.txt is not UTF-8 \(line 2\); save it in that encoding"
    ):
        read(folder)


def test_a_list_that_is_missing_is_refused_or_drawn_by_speaker(tmp_path: Path) -> None:
    folder = listed(tmp_path, None, lines(TEST))
    with pytest.raises(DataError, match="validation_list.txt is missing; the split 'lists' needs it"):
        read(folder, split="lists")
    got = read(folder)
    assert "the lists of" in said(got.report)
    assert "name no validation part; 4 recordings were drawn from the training part" in said(got.report)
    assert set(got.splits.test.ids) == set(TEST)
    assert len(set(got.splits.validation.speakers or ())) == 1
    only = listed(tmp_path / "other", lines(CHECK), None)
    assert set(read(only).splits.validation.ids) == set(CHECK)


def test_a_clip_of_both_lists_is_in_the_test_part_and_said(tmp_path: Path) -> None:
    got = read(listed(tmp_path, lines(CHECK + TEST[:2]), lines(TEST)))
    assert "2 recordings stand in both lists and are in the test part" in said(got.report)
    assert set(got.splits.test.ids) == set(TEST)


def test_a_list_may_name_a_recording_that_cannot_be_used(tmp_path: Path) -> None:
    folder = listed(tmp_path, lines(CHECK), lines(TEST))
    (folder / TEST[0]).write_bytes(b"")
    report = read(folder, skip_bad=True).report
    assert len(report.surprises()) == 1
    assert "1 recording was skipped: " in said(report)


RULES: list[SplitRule] = ["speakers", "takes", "random"]


def check(splits: Splits) -> None:
    """No clip is in two parts, and the training part has clips of all classes."""
    ids = [name for data in splits for name in data.ids]
    assert len(ids) == len(set(ids))
    assert min(splits.train.counts()) > 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_leaves_clips_of_each_class_for_training(
    tmp_path: Path, rule: SplitRule, seed: int
) -> None:
    # Two classes are rare: one of one clip, one of two clips by one speaker.
    rare = ["one/s0_nohash_0.wav", "two/s1_nohash_0.wav", "two/s1_nohash_1.wav"]
    often = [f"{word}/s{who}_nohash_{take}.wav" for word, who, take in product("ab", range(5), range(4))]
    got = read(fill(tmp_path, rare + often), split=rule, seed=seed)
    check(got.splits)
    assert len(got.splits.train.classes) == 4
    assert "the test part lacks 2 classes, which nothing is measured on (one, two)" in said(got.report)


def test_random_draws_a_tenth_of_each_class(tmp_path: Path) -> None:
    got = read(fill(tmp_path, [f"{word}/{n}x.wav" for word in "ab" for n in range(20)]))
    assert (got.report.split, got.report.why) == ("random", "no file says who speaks")
    assert [data.counts() for data in got.splits] == [(16, 16), (2, 2), (2, 2)]
    assert got.splits.train.speakers is None
    assert got.report.surprises() == []


def test_one_stray_file_leaves_the_split_by_speaker_as_it_is(tmp_path: Path) -> None:
    before = read(fill(tmp_path, CLIPS))
    after = read(fill(tmp_path, ["turn on/stray.wav"]))
    assert (before.report.split, after.report.split) == ("speakers", "speakers")
    assert parts(after.splits) == parts(before.splits) | {"turn on/stray.wav": "train"}
    assert said(after.report) == (
        "1 of 49 files names no speaker (turn on/stray.wav); each counts as its own speaker"
    )
    assert "turn on/stray.wav" in (after.splits.train.speakers or ())
    assert "Ana Sol3" in (after.splits.train.speakers or ()) + (after.splits.test.speakers or ())


def test_stray_files_with_few_speakers_are_for_training(tmp_path: Path) -> None:
    names = [f"{word}/s{who}_{take}.wav" for word, who, take in product("ab", range(3), range(10))]
    got = read(fill(tmp_path, [*names, "a/stray.wav"]))
    assert (got.report.split, got.report.why) == ("takes", "3 speakers are too few to keep them apart")
    assert "1 of 61 files names no speaker (a/stray.wav); they are in the training part" in said(got.report)
    assert "a/stray.wav" in got.splits.train.ids


def test_where_most_files_name_no_speaker_the_split_is_random_and_said(tmp_path: Path) -> None:
    got = read(
        fill(
            tmp_path, [*(f"{word}/{n}x.wav" for word in "ab" for n in range(20)), "a/s0_1.wav", "b/s0_1.wav"]
        )
    )
    assert got.report.split == "random"
    assert "40 of 42 files name no speaker" in said(got.report)
    assert got.splits.train.speakers is None


def test_a_speaker_a_class_is_no_reason_to_keep_speakers_apart(tmp_path: Path) -> None:
    words = [f"w{n}" for n in range(12)]
    got = read(fill(tmp_path, [f"{word}/{word}_{take}.wav" for word in words for take in range(10)]))
    assert (got.report.split, got.report.why) == ("takes", "most classes have one speaker")
    assert [min(data.counts()) for data in got.splits] == [8, 1, 1]


def test_speakers_are_kept_apart_and_those_who_alone_say_a_word_train(tmp_path: Path) -> None:
    alone = ["rare/s0_nohash_0.wav", "pair/s1_nohash_0.wav", "pair/s2_nohash_0.wav"]
    names = [f"{word}/s{who}_nohash_0.wav" for word, who in product("ab", range(10))]
    fill(tmp_path, names + alone)
    tests = set()
    for seed in range(30):  # in some of them both who say the word of two are drawn
        splits = read(tmp_path, seed=seed, split="speakers").splits
        check(splits)
        speakers = [set(data.speakers or ()) for data in splits]
        assert not speakers[0] & speakers[1] | speakers[0] & speakers[2] | speakers[1] & speakers[2]
        assert "s0" in speakers[0]
        tests |= speakers[2]
    assert len(tests) > 4


def test_two_files_of_one_take_are_in_one_part(tmp_path: Path) -> None:
    names = [
        f"{word}/s{who}_{take}.{kind}"
        for word, who, take, kind in product("ab", range(3), range(5), ("wav", "flac"))
    ]
    found = parts(read(fill(tmp_path, names)).splits)
    takes = defaultdict(set)
    for name, part in found.items():
        takes[name.rpartition(".")[0]].add(part)
    assert all(len(part) == 1 for part in takes.values())
    assert set(found.values()) == {"train", "validation", "test"}


def test_the_label_may_be_the_speaker_if_every_file_names_one(tmp_path: Path) -> None:
    names = [f"{word}/s{who}_{take}.wav" for word, who, take in product("ab", range(3), range(10))]
    splits = read(fill(tmp_path, names), task="speaker").splits
    check(splits)
    assert splits.train.classes == ("s0", "s1", "s2")
    fill(tmp_path, ["a/stray.wav", "b/stray.wav"])
    sentence = r"2 of 62 recordings of .* name no speaker \(a/stray.wav, b/stray.wav\); call them"
    with pytest.raises(DataError, match=sentence):
        read(tmp_path, task="speaker")


@pytest.mark.parametrize("rule", ["folders", "manifest"])
def test_parts_that_nobody_names_cannot_be_asked_for(tmp_path: Path, rule: SplitRule) -> None:
    with pytest.raises(DataError, match="does not say the part of each recording"):
        read(fill(tmp_path, CLIPS), split=rule)


def test_a_list_of_which_more_is_lost_than_found_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, [f"{word}/s{n}_nohash_0.wav" for word in ("no", "yes") for n in range(20)])
    (tmp_path / "validation_list.txt").write_text("no/s1_nohash_0.wav\nyes/s1_nohash_0.wav\n")
    foreign = [f"maybe/s{n}_nohash_0.wav" for n in range(9)]
    lost = [f"no/t{n}_nohash_0.wav" for n in range(4)]
    for kept, fits in ((5, True), (3, False)):
        there = [f"no/s{n}_nohash_0.wav" for n in range(2, 2 + kept)]
        (tmp_path / "testing_list.txt").write_text("\n".join([*there, *lost, *foreign]))
        if fits:
            assert read(tmp_path, split="lists").report.split == "lists"
        else:
            with pytest.raises(DataError, match="testing_list.txt does not fit: 13 of 16 entries"):
                read(tmp_path, split="lists")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_list_may_end_its_lines_as_any_system_does(tmp_path: Path, end: str) -> None:
    names = [f"{word}/s{n}_nohash_0.wav" for word in ("no", "yes") for n in range(20)]
    fill(tmp_path, names)
    (tmp_path / "testing_list.txt").write_bytes(end.join(names[::5]).encode())
    (tmp_path / "validation_list.txt").write_bytes((end.join(names[1::5]) + "\r" + names[2] + "\n").encode())
    splits = read(tmp_path, split="lists").splits
    assert set(splits.test.ids) == set(names[::5])
    assert set(splits.validation.ids) == {*names[1::5], names[2]}


@pytest.mark.parametrize("entry", ["x" * 5_000, "no/" + "x" * 300, "no/a\0b.wav"])
def test_an_entry_that_no_file_can_be_called_is_said(tmp_path: Path, entry: str) -> None:
    names = [f"{word}/s{n}_nohash_0.wav" for word in ("no", "yes") for n in range(20)]
    fill(tmp_path, names)
    (tmp_path / "testing_list.txt").write_text("\n".join([*names[::5], entry]))
    (tmp_path / "validation_list.txt").write_text("\n".join(names[1::5]))
    report = read(tmp_path, split="lists").report
    assert any("testing_list.txt has 1 entry" in surprise for surprise in report.surprises())
    assert all(len(surprise) < 400 for surprise in report.surprises())
