"""What a job is known by: the contents of its data, the code it can reach, precision and processor."""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from closesesame.bench import identity as identity_module
from closesesame.bench.identity import Code, Contents, Machine, changed, check_data
from closesesame.bench.queue.store import Job, Store
from closesesame.bench.recipe import DataEntry, Recipe
from closesesame.bench.stages import JUDGE, METHOD, POISON, TRAIN, TRIGGER, modules_of, plan
from closesesame.core.errors import DataError, SettingError

HERE = Machine("fp32", "some", "2.0")
Folder = Callable[..., Path]


def recipe(**more: object) -> Recipe:
    given: dict[str, object] = {
        "name": "grid",
        "rates": (0.1,),
        "data": [{"name": "words", "source": "set", "sample_rate": 8000, "duration_s": 0.5}],
        "attack": [{"name": "ultrasonic"}, {"name": "pitch"}],
        "removal": [{"name": "ft"}, {"name": "clp"}, {"name": "ft_augmented"}],
    }
    return Recipe(**(given | more))


def ids(place: Path, machine: Machine = HERE, **more: object) -> dict[str, str]:
    """The id of every job by its label."""
    return {f"{job.task} {job.label}": job.id for job in plan(recipe(**more), place, machine=machine)}


def rerun(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name, job in after.items() if before[name] != job}


def test_folders_with_equal_names_and_sizes_but_other_contents_are_two_data_sets(
    folder_of: Folder, tmp_path: Path
) -> None:
    folder = folder_of({"yes": 12, "no": 12})
    other = tmp_path / "other" / "set"
    shutil.copytree(folder, other)
    entry = DataEntry(name="words", source="set")
    assert Contents().of_data(entry, tmp_path) == Contents().of_data(entry, tmp_path / "other")
    changed_clip = other / "yes" / "s0_nohash_0.wav"
    wave, rate = soundfile.read(changed_clip)
    soundfile.write(changed_clip, 0.5 * wave, rate)
    assert changed_clip.stat().st_size == (folder / "yes" / "s0_nohash_0.wav").stat().st_size
    assert Contents().of_data(entry, tmp_path) != Contents().of_data(entry, tmp_path / "other")
    before, after = ids(tmp_path), ids(tmp_path / "other")
    assert rerun(before, after) == set(before)


def test_the_lists_of_the_parts_are_part_of_a_data_set(folder_of: Folder, tmp_path: Path) -> None:
    folder = folder_of({"yes": 12, "no": 12})
    (folder / "testing_list.txt").write_text("yes/s0_nohash_0.wav\n")
    before = Contents().of_data(DataEntry(name="words", source="set"), tmp_path)
    (folder / "testing_list.txt").write_text("yes/s1_nohash_0.wav\n")
    assert Contents().of_data(DataEntry(name="words", source="set"), tmp_path) != before


def test_a_hash_is_remembered_while_size_and_time_stay_and_taken_anew_when_they_do_not(
    folder_of: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of({"yes": 12, "no": 12})
    memory, entry = tmp_path / "store" / "contents.json", DataEntry(name="words", source="set")
    first = Contents(memory)
    found = first.of_data(entry, tmp_path)
    first.save()
    known = json.loads(memory.read_text())
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda *_, **__: pytest.fail("a file was read again"))
        again = Contents()
        again._known = known
        assert again.of_data(entry, tmp_path) == found
    clip = tmp_path / "set" / "yes" / "s0_nohash_0.wav"
    wave, rate = soundfile.read(clip)
    soundfile.write(clip, -wave, rate)
    os.utime(clip, ns=(1, 1))
    assert Contents(memory).of_data(entry, tmp_path) != found
    memory.write_text("no JSON")
    assert Contents(memory).of_data(entry, tmp_path) == Contents().of_data(entry, tmp_path)


def test_where_a_folder_lies_changes_no_id(folder_of: Folder, tmp_path: Path) -> None:
    folder_of({"yes": 12, "no": 12})
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds" / "plane.wav", 0.1 * torch.randn(8000).numpy(), 8000)
    sounds = [{"name": "badnets", "settings": {"sound": "sounds/plane.wav"}}]
    before = ids(tmp_path, attack=sounds)
    moved = tmp_path / "somewhere" / "else"
    moved.mkdir(parents=True)
    for name in ("set", "sounds"):
        shutil.move(tmp_path / name, moved / name)
    assert ids(moved, attack=sounds) == before
    soundfile.write(moved / "sounds" / "plane.wav", 0.1 * torch.randn(8000).numpy(), 8000)
    other = rerun(before, ids(moved, attack=sounds))
    assert {name.partition(" ")[0] for name in other} == {TRIGGER, POISON, TRAIN, METHOD, JUDGE}
    assert not {name for name in other if "clean model" in name and TRAIN in name}


def test_a_store_finds_data_that_moved(tmp_path: Path) -> None:
    store = Store(tmp_path)
    job = Job(id="a", task="t", payload={"where": "/old"}, label="x")
    assert store.add([job]) == 1
    assert store.add([Job(id="a", task="t", payload={"where": "/new"}, label="x")]) == 0
    claimed = store.claim("me")
    assert claimed is not None
    assert claimed.payload == {"where": "/new"}


def test_data_that_change_while_a_grid_runs_are_refused(folder_of: Folder, tmp_path: Path) -> None:
    folder = folder_of({"yes": 12, "no": 12})
    entry = DataEntry(name="words", source="set")
    planned = Contents().of_data(entry, tmp_path)
    check_data(entry, tmp_path, planned)
    (folder / "yes" / "s0_nohash_0.wav").write_bytes(b"something else")
    with pytest.raises(DataError, match="data set 'words' changed after the grid was planned"):
        check_data(entry, tmp_path, planned)


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Adds lines to the source of a module, as the hash sees it."""
    source = identity_module.source_of

    def edit(module: str, lines: str) -> None:
        def more(name: str) -> str:
            return source(name) + (f"\n{lines}\n" if name == module else "")

        monkeypatch.setattr(identity_module, "source_of", more)

    return edit


@pytest.mark.parametrize(
    "module",
    [
        "closesesame.training.loop",
        "closesesame.audio.augment",
        "closesesame.audio.features",
        "closesesame.models.base",
        "closesesame.data.dataset",
        "closesesame.data.folders",
        "closesesame.data.rows",
        "closesesame.running",
        "closesesame.bench.tasks",
        "closesesame.bench.protocol",
        "closesesame.core.seeding",
    ],
)
def test_a_change_of_what_all_trainings_reach_runs_all_victims_repairs_and_scores_again(
    module: str, folder_of: Folder, tmp_path: Path, edited: Callable[[str, str], None]
) -> None:
    folder_of({"yes": 12, "no": 12})
    before = ids(tmp_path)
    edited(module, "EXTRA = 1")
    again = rerun(before, ids(tmp_path))
    assert {name for name in before if TRIGGER not in name and POISON not in name} <= again


REACHED: dict[str, Callable[[str], bool]] = {
    "closesesame.attacks.pitch": lambda job: "pitch" in job,
    "closesesame.evaluation.exam": lambda job: JUDGE in job,
    "closesesame.removal.clp": lambda job: "clp" in job,
    "closesesame.models.channels": lambda job: "clp" in job,
    "closesesame.removal.base": lambda job: METHOD in job or (JUDGE in job and " none: " not in job),
    "closesesame.removal.common.strong_augmentation": lambda job: "ft_augmented" in job,
    "closesesame.attacks.ultrasonic": lambda job: "ultrasonic" in job,
}


@pytest.mark.parametrize("module", REACHED)
def test_a_change_runs_again_what_can_reach_it_and_nothing_else(
    module: str, folder_of: Folder, tmp_path: Path, edited: Callable[[str, str], None]
) -> None:
    folder_of({"yes": 12, "no": 12})
    before = ids(tmp_path)
    edited(module, "EXTRA = 1")
    assert rerun(before, ids(tmp_path)) == {job for job in before if REACHED[module](job)}


def test_a_method_that_is_named_in_a_setting_is_part_of_the_identity(
    folder_of: Folder, tmp_path: Path, edited: Callable[[str, str], None]
) -> None:
    folder_of({"yes": 12, "no": 12})
    screened = {"name": "screened", "settings": {"detection": "training_loss", "dropped_share": 0.1}}
    grid: dict[str, Any] = {"removal": [], "robust_training": [screened, {"name": "plain"}]}
    before = ids(tmp_path, **grid)
    jobs = plan(recipe(**grid), tmp_path, machine=HERE)
    assert "closesesame.detection.training_loss" in modules_of(jobs)
    assert "closesesame.detection.spectral_signatures" not in modules_of(jobs)
    edited("closesesame.detection.training_loss", "EXTRA = 1")
    assert rerun(before, ids(tmp_path, **grid)) == {job for job in before if "screened" in job}
    edited("closesesame.detection.spectral_signatures", "EXTRA = 1")
    assert ids(tmp_path, **grid) == before


@pytest.mark.parametrize(
    "module",
    [
        "closesesame.bench.queue.store",
        "closesesame.families",
        "closesesame.report.pages.grid",
        "closesesame.cli.verbs.bench",
        "closesesame.demo",
    ],
)
def test_engine_report_and_command_line_are_no_part_of_an_identity(
    module: str, folder_of: Folder, tmp_path: Path, edited: Callable[[str, str], None]
) -> None:
    folder_of({"yes": 12, "no": 12})
    before = ids(tmp_path)
    edited(module, "EXTRA = 1")
    assert ids(tmp_path) == before


def test_comments_and_docstrings_do_not_count_but_constants_do(edited: Callable[[str, str], None]) -> None:
    before = Code().of("closesesame.removal.ft")
    edited("closesesame.removal.ft", "# a comment")
    assert Code().of("closesesame.removal.ft") == before
    edited("closesesame.removal.ft", 'def more() -> int:\n    """One."""\n    return 1')
    one = Code().of("closesesame.removal.ft")
    edited("closesesame.removal.ft", 'def more() -> int:\n    """Another."""\n    return 1')
    assert Code().of("closesesame.removal.ft") == one
    edited("closesesame.removal.ft", 'def more() -> int:\n    """Another."""\n    return 2')
    assert changed(one, Code().of("closesesame.removal.ft")) == ["closesesame.removal.ft"]
    assert changed(before, one) == ["closesesame.removal.ft"]


def test_methods_of_others_are_followed_in_their_own_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lab_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("from .deep import CONSTANT as CONSTANT\nNAME = 1\n")
    (package / "deep.py").write_text("CONSTANT = 1\n")
    (package / "whole.py").write_text("WHOLE = 1\n")
    (package / "helper.py").write_text("def help_me():\n    from closesesame import Exam\n    return Exam\n")
    (package / "mine.py").write_text(
        textwrap.dedent(
            """
            import json
            import lab_of_mine.whole
            from . import helper
            from lab_of_mine import CONSTANT
            from closesesame.removal import FT


            class Mine(FT):
                name = "mine"
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = Code().of("lab_of_mine.mine")
    own = {f"lab_of_mine.{name}" for name in ("mine", "helper", "deep", "whole")}
    assert own | {"closesesame.removal.ft"} <= set(found)
    assert "closesesame.evaluation.exam" in found
    assert "json" not in found
    assert "closesesame.removal.anp" not in found
    (package / "deep.py").write_text("CONSTANT = 22\n")
    assert changed(found, Code().of("lab_of_mine.mine")) == ["lab_of_mine.deep"]
    with pytest.raises(SettingError, match="the code of 'lab_of_mine.gone' is not there"):
        Code().of("lab_of_mine.gone")
    sys.modules.pop("lab_of_mine", None)


def test_imports_and_stubs_are_read_as_they_stand_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: Callable[[str, str], None]
) -> None:
    assert "closesesame.removal.anp" not in Code().of("closesesame.removal.ft")
    edited("closesesame.removal.ft", "from .anp import ANP")
    assert "closesesame.removal.anp" in Code().of("closesesame.removal.ft")
    package = tmp_path / "lazy_lab"
    package.mkdir()
    for name in ("__init__", "first", "second"):
        (package / f"{name}.py").write_text("CONSTANT = 1\n" if name != "__init__" else "")
    (package / "mine.py").write_text("from lazy_lab import CONSTANT\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name, other in (("first", "second"), ("second", "first")):
        (package / "__init__.pyi").write_text(f"from .{name} import CONSTANT as CONSTANT\n")
        found = Code().of("lazy_lab.mine")
        assert f"lazy_lab.{name}" in found
        assert f"lazy_lab.{other}" not in found
    sys.modules.pop("lazy_lab", None)


def test_precision_processor_and_torch_are_part_of_every_identity(folder_of: Folder, tmp_path: Path) -> None:
    folder_of({"yes": 12, "no": 12})
    before = ids(tmp_path)
    for other in (
        Machine("bf16", "some", "2.0"),
        Machine("fp32", "other", "2.0"),
        Machine("fp32", "some", "3.0"),
    ):
        assert rerun(before, ids(tmp_path, other)) == set(before)


def test_a_changed_default_runs_its_method_again(
    folder_of: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from closesesame.removal import CLP

    folder_of({"yes": 12, "no": 12})
    before = ids(tmp_path)
    plain = CLP.settings
    monkeypatch.setattr(CLP, "settings", lambda self: {**plain(self), "u": 4.0})
    assert rerun(before, ids(tmp_path)) == {name for name in before if "clp" in name}
