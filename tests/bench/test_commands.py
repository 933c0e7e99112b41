"""`sesame bench`: what it says, on which stream, with which status, and what it refuses before any work."""

import json
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import soundfile

from closesesame import cli
from closesesame.bench import grid as grid_module
from closesesame.bench import tasks
from closesesame.bench.identity import Machine
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.store import Outcome, Store
from closesesame.bench.recipe import Recipe
from closesesame.bench.stages import JUDGE, METHOD, cell_of, modules_of, plan
from closesesame.data.folders import read_splits
from closesesame.evaluation.measures import MEASURES

Folder = Callable[..., Path]
RECIPE = """
name = "tiny"
seeds = [0]
rates = [0.2]
clean_fractions = [0.4]
training = { epochs = 2, batch_size = 16 }
protocol = { clean_from = "train" }

[[data]]
name = "words"
source = "set"
sample_rate = 8000
duration_s = 0.5

[[model]]
name = "resnet"
label = "narrow"
settings = { widths = [8, 16] }

[[attack]]
name = "ultrasonic"
label = "<b>tone</b>"

[[attack]]
name = "own_methods:Unlucky"
label = "unlucky"

[[removal]]
name = "ft"
settings = { steps = 2 }
"""
OWN = """
from closesesame.attacks.ultrasonic import Ultrasonic
from closesesame.core.errors import DataError
from closesesame.models import ResNet


class Unlucky(Ultrasonic):
    name = "unlucky"
    cite = "none"

    def plant(self, train, chosen, trigger, seed):
        raise DataError("the door bell is missing; record one")


class Net(ResNet):
    name = "net"
    cite = "none"


class Twisted(ResNet):
    name = "twisted"
    cite = "none"

    def body(self, classes, bands, frames):
        return 1 / 0
"""


@dataclass
class Ended:
    status: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Sesame = Callable[..., Ended]


@pytest.fixture
def sesame(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Sesame:
    """Runs `sesame bench ...` in this process, in an empty folder; a traceback fails the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["sesame", "bench", *map(str, words)])
        capsys.readouterr()
        status = 0
        try:
            cli.run()
        except SystemExit as end:
            status = int(end.code or 0)
        return Ended(status, *capsys.readouterr())

    return run


@pytest.fixture
def refused(sesame: Sesame, tmp_path: Path) -> Callable[..., str]:
    """Runs a recipe that is to be refused, before any job is made; returns the sentence."""

    def run(recipe: str, *words: object) -> str:
        (tmp_path / "tiny.toml").write_text(recipe)
        ended = sesame("run", "tiny.toml", "--store", "store", *words)
        assert (ended.status, ended.out) == (2, "")
        assert ended.error.startswith("sesame: ")
        assert ended.error.count("\n") == 1
        if (tmp_path / "store" / "grid.sqlite").exists():
            assert not Store(tmp_path / "store").rows()
        return ended.error

    return run


@pytest.fixture
def own(tmp_path: Path) -> None:
    """Methods of somebody else, in the folder that the command is run in."""
    (tmp_path / "own_methods.py").write_text(OWN)
    sys.modules.pop("own_methods", None)


def changed(*pairs: tuple[str, str], recipe: str = RECIPE.replace("own_methods:Unlucky", "pitch")) -> str:
    for old, new in pairs:
        assert recipe.count(old) == 1
        recipe = recipe.replace(old, new)
    return recipe


@pytest.mark.usefixtures("own")
def test_a_grid_with_methods_of_the_users_own(sesame: Sesame, folder_of: Folder, tmp_path: Path) -> None:
    folder_of({"yes": 36, "no": 36})
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    run = ("run", recipe, "--workers", 1, "--json")
    first = sesame(*run)
    # Two triggers; two poisoned sets, of which one cannot be made; a clean model and two suspects; three
    # repairs; two rows wait in vain. Rate 0 is measured though it was not asked for.
    assert {name: first.json[name] for name in ("done", "failed", "pending")} == {
        "done": 13,
        "failed": 5,
        "pending": 0,
    }
    assert first.status == 1
    last = first.error.splitlines()[-1]
    assert last.startswith("sesame: 5 jobs of this grid failed, the first is 'poisoned set: unlucky 20 %")
    assert "the door bell is missing" in last
    assert "sesame bench status --store runs/grid" in last

    status = sesame("status", "--json").json
    assert status["failed"][0]["error"].startswith("the door bell is missing")
    rows = sesame("show", "--json").json
    assert [(row["attack"], row["poisoning_rate"], row["method"]) for row in rows] == [
        ("<b>tone</b>", 0.0, "none"),
        ("<b>tone</b>", 0.0, "ft"),
        ("<b>tone</b>", 0.2, "none"),
        ("<b>tone</b>", 0.2, "ft"),
        ("unlucky", 0.0, "none"),
        ("unlucky", 0.0, "ft"),
        ("unlucky", 0.2, "none"),
        ("unlucky", 0.2, "ft"),
    ]
    assert [row["state"] for row in rows] == ["done"] * 6 + ["failed"] * 2
    assert {row["model"] for row in rows} == {"narrow"}
    assert rows[2]["poisoned_clips"] == round(0.2 * rows[2]["training_clips"])
    assert rows[0]["ra"] == rows[0]["ra_reference"]
    assert rows[3]["der"] is not None
    assert rows[2]["snr_db"] == rows[3]["snr_db"]
    assert rows[2]["lsd_db"] > 0
    assert rows[4]["snr_db"] is not None
    assert rows[6]["snr_db"] is None
    assert rows[3]["ra_reference_repaired"] == rows[1]["ra"]
    assert {row["precision_judge"] for row in rows[:6]} == {"fp32"}
    lines = sesame("show", "--csv").out.splitlines()
    assert lines[0].startswith("data,task,model,attack")
    assert ",snr_db,lsd_db,pesq,stoi," in lines[0]
    assert len(lines) == 9
    sesame("report", "first.html")
    assert "report first.html" in (tmp_path / "first.html").read_text()
    for command, out in (("export", "out.json"), ("report", "grid.html")):
        assert sesame(command, out).status == 0
        (tmp_path / out).write_text("mine")
        assert "replace it with --force" in sesame(command, out).error
        assert (tmp_path / out).read_text() == "mine"
        assert sesame(command, out, "--force").status == 0
    assert {"recipe", "version", "host", "rows"} <= set(json.loads((tmp_path / "out.json").read_text()))
    assert "<b>tone</b>" not in (tmp_path / "grid.html").read_text()

    # Changing one removal leaves the suspects; nothing is done twice, whatever became of the cache. Models of
    # the user's own architecture are read again by new workers, which nothing but the recipe tells of it.
    shutil.rmtree(tmp_path / "runs" / "grid" / "cache")
    recipe.write_text(RECIPE.replace("steps = 2", "steps = 1"))
    again = sesame(*run)
    assert (again.json["done"], again.json["failed"], again.status) == (13 + 5, 5 + 2, 1)

    # A trigger that is gone is not made anew: it might be another one than the suspects know.
    for made in (tmp_path / "runs" / "grid" / "artifacts").glob("*/trigger.json"):
        shutil.rmtree(made.parent)
    recipe.write_text(RECIPE.replace("steps = 2", "steps = 3"))
    sesame(*run)
    errors = [row["error"] for row in sesame("show", "--json").json if row["method"] == "ft"]
    assert all("is not a trigger folder" in error for error in errors[:2])


@pytest.mark.usefixtures("own")
def test_a_grid_with_an_own_model_is_extended_and_a_grid_without_failures_ends_with_0(
    sesame: Sesame, folder_of: Folder, tmp_path: Path
) -> None:
    folder_of({"yes": 36, "no": 36})
    recipe = changed(('name = "resnet"', 'name = "own_methods:Net"'))
    recipe = recipe.replace('\n[[attack]]\nname = "pitch"\nlabel = "unlucky"\n', "")
    (tmp_path / "tiny.toml").write_text(recipe.replace("steps = 2", "steps = 1"))
    first = sesame("run", "tiny.toml", "--workers", 1)
    assert (first.status, "failed: 0" in first.out) == (0, True)
    (tmp_path / "tiny.toml").write_text(recipe)
    sys.modules.pop("own_methods")
    ended = sesame("run", "tiny.toml", "--workers", 1, "--json")
    assert (ended.status, ended.json["done"]) == (0, 10 + 4)
    sesame("export", "out.json")
    assert sesame("check", "out.json").status == 0
    sys.modules.pop("own_methods")
    sentence = sesame("check", "out.json").error  # a result file may come from anybody
    assert "names methods of 'own_methods'; if you trust it" in sentence
    assert "--import own_methods" in sentence
    assert "own_methods" not in sys.modules
    (tmp_path / "set").rename(tmp_path / "elsewhere")
    assert "--data names the folder" in sesame("--import", "own_methods", "check", "out.json").error


REFUSED = {
    "clean_fractions": ((("clean_fractions", "clean_fraction"),), "did you mean 'clean_fractions'"),
    "sample_rate": ((("sample_rate", "samplerate"),), "Recipe.data[0] has no setting 'samplerate'"),
    "no name": ((('name = "words"', ""),), "Recipe.data[0].name is missing"),
    "empty name": ((('name = "words"', 'name = ""'),), "Recipe.data[0].name must be text of 1 or more"),
    "bell in a name": (
        (('name = "words"', 'name = "a\\u0007"'),),
        "Recipe.data[0].name must be of printable characters",
    ),
    "bell in a label": (
        (('label = "narrow"', 'label = "a\\u0007"'),),
        "Recipe.model[0].label must be of printable",
    ),
    "two of one name": (
        (("steps = 2 }\n", 'steps = 2 }\n[[removal]]\nname = "ft"\n'),),
        "two entries of removal called 'ft'; give one another label",
    ),
    "one bracket": ((("[[removal]]", "[removal]"),), "write [[removal]] above each entry"),
    "version": (
        (('clean_from = "train"', 'version = "fair-1"'),),
        "Recipe.protocol has a version that is fixed, 'fair-1'; leave 'version' out",
    ),
    "rate in settings": (
        (('label = "unlucky"', "settings = { rate = 0.3 }"),),
        "Recipe.attack[1] sets the poisoning rate of 'pitch' in its settings",
    ),
    "unknown removal": ((('name = "ft"', 'name = "tf"'),), "no removal is called 'tf'"),
    "setting": ((("steps = 2", "stepz = 2"),), "FT has no setting 'stepz'"),
    "hertz": ((("sample_rate = 8000", "sample_rate = 100000000"),), "must be <= 192000, got 100000000"),
    "duration": ((("duration_s = 0.5", "duration_s = -1"),), "duration_s must be >= 0.05, got -1"),
    "nan": ((("rates = [0.2]", "rates = [nan]"),), "Recipe.rates[0] must be a finite number"),
    "seed": ((("seeds = [0]", "seeds = [-1]"),), "Recipe.seeds[0] must be >= 0, got -1"),
    "patience": ((("epochs = 2", "epochs = 2, patience = 1"),), "[training] must not set patience"),
    "no TOML": ((('name = "tiny"', "name = "),), "tiny.toml is not TOML"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_wrong_recipe_is_one_sentence(fault: str, refused: Callable[..., str], folder_of: Folder) -> None:
    folder_of({"yes": 36, "no": 36})
    pairs, sentence = REFUSED[fault]
    error = refused(changed(*pairs))
    assert "tiny.toml" in error
    assert sentence in error
    assert "Traceback" not in error


PITCH = 'name = "pitch"\nlabel = "unlucky"'
REASON = "a reason of some length, so that no table holds it"
AHEAD = {
    "target": (
        (('label = "unlucky"', 'settings = { target = "maybe" }'),),
        "attack 'pitch' on data set 'words': no class is called 'maybe'; known are no, yes",
    ),
    "too few to poison": (
        (("rates = [0.2]", "rates = [1.0]"),),
        "cannot poison 60 clips, which is rate 1: 30 of 60 may be poisoned; lower it to 0.5 or less",
    ),
    "poisons nothing": ((("rates = [0.2]", "rates = [0.001]"),), "poisons no clip at rate 0.001"),
    "sound": (
        ((PITCH, 'name = "badnets"\nsettings = { sound = "x.wav" }'),),
        "attack 'badnets' needs sound = 'x.wav'",
    ),
    "sound that is none": (
        ((PITCH, 'name = "badnets"\nsettings = { sound = "bad.wav" }'),),
        "attack 'badnets': ",
    ),
    "too many clean": (
        (('clean_from = "train"', ""), ("[0.4]", "[0.2]")),
        "12 clean examples are wanted and the validation part has 6; lower clean_fractions to 0.1 or less",
    ),
    "too few clean": (
        (("[0.4]", "[0.02]"),),
        "removal 'ft' on data set 'words': clean fraction 0.02 is 1 clips",
    ),
    "no batch norm": (
        (
            ('name = "resnet"', 'name = "kwt"'),
            ("settings = { widths = [8, 16] }", ""),
            ('"ft"\nsettings = { steps = 2 }', '"bnp"'),
        ),
        "removal 'bnp' needs batch norm, and model 'narrow' has none",
    ),
    "model": (
        (('name = "resnet"', 'name = "own_methods:Twisted"'), ("settings = { widths = [8, 16] }", "")),
        "model 'narrow' on data set 'words': it cannot be built with these settings (ZeroDivisionError",
    ),
    "no data": ((('source = "set"', 'source = "sets"'),), "sets is not there, and data set 'words' should"),
}


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("fault", AHEAD)
def test_what_the_data_show_is_refused_before_a_job_is_made(
    fault: str, refused: Callable[..., str], folder_of: Folder, tmp_path: Path
) -> None:
    folder_of({"yes": 36, "no": 36})
    (tmp_path / "bad.wav").write_text("this is no sound")
    pairs, sentence = AHEAD[fault]
    error = refused(changed(*pairs))
    assert "tiny.toml" in error
    assert sentence in error


def test_a_recording_that_cannot_be_read_is_refused_before_a_job_is_made(
    refused: Callable[..., str], folder_of: Folder
) -> None:
    clip = folder_of({"yes": 36, "no": 36}) / "yes" / "s0_nohash_0.wav"
    clip.write_text("this is no sound")
    assert "s0_nohash_0.wav" in refused(changed())


def test_a_part_that_lacks_a_class_is_refused(refused: Callable[..., str], folder_of: Folder) -> None:
    folder = folder_of({"yes": 36, "no": 36})
    names = [f"yes/s{take % 12}_nohash_{take // 12}.wav" for take in range(6)]
    (folder / "testing_list.txt").write_text("\n".join(names))
    (folder / "validation_list.txt").write_text("no/s0_nohash_0.wav\nyes/s11_nohash_0.wav\n")
    assert "data set 'words' has no clip of 'no' in its test part" in refused(changed())


def test_a_removal_in_fp32_alone_is_refused_in_a_grid_of_another_precision(
    refused: Callable[..., str], folder_of: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from closesesame.core import machine

    monkeypatch.setattr(machine, "has_bf16", lambda device: True)
    folder_of({"yes": 36, "no": 36})
    for precision in ("auto", "bf16"):
        recipe = changed(('clean_from = "train"', f'precision = "{precision}"'), ('"ft"', '"ibau"'))
        error = refused(recipe)
        assert f"removal 'ibau' trains in fp32 alone, and precision = '{precision}'" in error


def test_an_absurd_number_of_jobs_is_refused_with_the_number(
    refused: Callable[..., str], folder_of: Folder
) -> None:
    folder_of({"yes": 36, "no": 36})
    seeds = list(range(1000))
    rates = [round(0.001 * number, 3) for number in range(1, 300)]
    error = refused(changed(("[0]", str(seeds)), ("rates = [0.2]", f"rates = {rates}")))
    # Two attacks at 300 rates: two triggers, at most 600 poisoned sets, 599 suspects, each also repaired, and
    # 600 rows of either.
    assert f"makes up to {1000 * (2 + 600 + 2 * 599 + 2 * 600):,} jobs, and at most 100,000" in error


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--workers", 0), "workers must be 1 to 256, got 0"),
        (("--workers", 1000), "workers must be 1 to 256, got 1000"),
        (("--timeout-s", 0), "timeout_s must be 1 to 2,592,000, got 0"),
        (("--timeout-s", "nan"), "timeout_s must be 1 to 2,592,000, got nan"),
        (("--tries", 0), "tries must be 1 to 100, got 0"),
    ],
)
def test_numbers_of_a_run_are_bounded(
    option: tuple[object, ...], sentence: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    assert sentence in refused(changed(), *option)
    assert not (tmp_path / "store").exists()


@pytest.fixture
def unworked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids are planned, and no worker begins."""
    monkeypatch.setattr(grid_module, "run", lambda *_, **__: None)


@pytest.mark.usefixtures("unworked")
def test_a_data_free_removal_needs_no_clean_clips(sesame: Sesame, folder_of: Folder, tmp_path: Path) -> None:
    folder_of({"yes": 36, "no": 36})
    recipe = changed(("[0.4]", "[0.0]"), ('"ft"\nsettings = { steps = 2 }', '"clp"'))
    (tmp_path / "tiny.toml").write_text(recipe)
    assert sesame("run", "tiny.toml").status == 0


@pytest.mark.usefixtures("unworked")
def test_recordings_are_read_once_and_their_surprises_said(
    sesame: Sesame, folder_of: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of({"yes": 36, "no": 36})
    long_one = folder / "no" / "s0_nohash_0.wav"
    wave, rate = soundfile.read(long_one)
    soundfile.write(long_one, [*wave, *wave], rate)
    (tmp_path / "tiny.toml").write_text(changed())
    reads = []

    def read(*words: Any, **more: Any) -> Any:
        reads.append(words)
        return read_splits(*words, **more)

    monkeypatch.setattr(tasks, "read_splits", read)
    for _ in range(2):  # the second run says it too, though it reads no recording
        ended = sesame("run", "tiny.toml", "--json")
        assert "note: data set 'words': " in ended.error
        assert "note: " not in ended.out
    store = Store(tmp_path / "runs" / "grid")
    for row in store.rows():  # what a worker does
        tasks.load_data(cell_of(row.job), ArtifactStore(tmp_path / "runs" / "grid"))
    assert len(reads) == 1


def test_a_missing_or_odd_recipe_is_named_once(sesame: Sesame, tmp_path: Path) -> None:
    assert sesame("run", "nothing.toml").error == (
        "sesame: nothing.toml cannot be read: No such file or directory\n"
    )
    (tmp_path / "latin.toml").write_bytes("name = 'm\xfcde'".encode("latin-1"))
    assert sesame("run", "latin.toml").error == "sesame: latin.toml is not TOML: it is no text in UTF-8\n"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two cells measured, one that failed and one in work; nothing was trained."""
    place = tmp_path_factory.mktemp("measured")
    recipe = Recipe(
        name="grid",
        rates=(0.05,),
        data=[{"name": "a data set with a long name", "source": "synthetic"}],
        model=[{"name": "resnet", "label": "wide"}],
        attack=[{"name": "ultrasonic"}],
        removal=[{"name": "ft_augmented"}],
    )
    machine = Machine("fp32", "some", "2.0")
    jobs = plan(recipe, place, machine=machine)
    store = Store(place)
    store.add(jobs)
    store.describe(
        recipe=recipe.model_dump_json(),
        cells=json.dumps([job.id for job in jobs if job.task == JUDGE]),
        machine=json.dumps(machine.settings()),
        code=json.dumps(modules_of(jobs)),
    )
    rates = {"acc": 0.9, "asr": 0.1, "ra": 0.5, "ra_reference": 0.5}
    while (job := store.claim("me")) is not None:
        poisoned = "5 %: a data set" in job.label
        if job.task == METHOD and poisoned:
            store.finish(job.id, "me", Outcome(error=REASON))
        elif job.task != JUDGE or not poisoned:
            store.finish(job.id, "me", Outcome(result=rates, seconds=1.0))
    store.close()
    return place


@pytest.fixture
def finished(measured: Path, tmp_path: Path) -> Path:
    """The store `measured`, to do anything with."""
    return Path(shutil.copytree(measured, tmp_path / "runs" / "grid"))


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_figures_can_be_read_at_any_width(
    width: int, sesame: Sesame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = sesame("show").out
    for value in ("wide", "ultrasonic", "90.0", "10.0", "5 %"):
        assert value in text
    assert "cells done: 2 of 4" in text
    assert text.count(REASON) == 1
    table, _, below = text.partition("cells done")
    assert "failed: a data set with a long name, wide, ultrasonic, 5 %, ft_augmented, 5 %, 0: needs" in below
    assert max(map(len, table.splitlines())) <= width
    seeds = [line for line in table.splitlines() if "seed" in line or "wide" in line]
    assert any("0" in line.split() or "seed: 0" in line for line in seeds)
    status = sesame("status").out
    assert "in work: 1" in status
    assert "leased" not in status


def test_each_family_has_a_table_with_its_own_measures(
    sesame: Sesame, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = {"data": "words", "model": "resnet", "attack": "hum", "poisoning_rate": 0.05, "seed": 0}
    about |= {"clean_fraction": None, "state": "done", "error": None} | dict.fromkeys(MEASURES)
    rows = [
        about | {"family": family, "method": name, "method_name": name} | found
        for family, name, found in (
            ("none", "none", {"acc": 0.91, "asr": 0.99}),
            ("inspection", "nc", {"right": 1.0, "flagged": 1.0, "p_value": 0.02}),
            ("detection", "strip", {"auroc": 0.875, "tpr_at_1": 0.5}),
            ("removal", "ft", {"acc": 0.9, "asr": 0.25, "der": 0.865}),
        )
    ]
    monkeypatch.setattr(grid_module, "read_grid", lambda store: ("a grid", rows))
    monkeypatch.setenv("COLUMNS", "200")
    text = sesame("show").out
    titles = ("Suspects", "Removals", "Detections", "Inspections")
    assert [line for line in text.splitlines() if line in titles] == list(titles)
    parts = {}
    for title, after in zip(titles, (*titles[1:], None), strict=True):
        _, _, part = text.partition(f"{title}\n")
        parts[title] = part if after is None else part.partition(f"{after}\n")[0]
    headings = {
        "Suspects": ["ACC (%)", "ASR (%)"],
        "Removals": ["ASR (%)", "ACC (%)", "DER"],
        "Detections": ["AUROC", "TPR at 1 % FPR (%)"],
        "Inspections": ["right (%)", "flagged (%)", "p"],
    }
    for title, part in parts.items():
        head = [cell.strip() for cell in re.split("[\u2503\u2502|]", part.splitlines()[1])]
        assert [cell for cell in head if cell][7:] == headings[title]
    for title, words in {"Suspects": "none 91.0 99.0", "Removals": "ft 25.0 90.0 0.865"}.items():
        assert all(word in parts[title].split() for word in words.split())
    assert {"nc", "100.0", "0.020"} <= set(parts["Inspections"].split())
    assert "strip" not in parts["Inspections"]


def test_a_status_without_failures_has_no_empty_table(sesame: Sesame) -> None:
    store = Store(Path("runs/grid"))
    store.close()
    assert sesame("status").out == "done: 0\nfailed: 0\nin work: 0\nwaiting: 0\n"


def spoil_pages(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096:] = b"\x7f" * (len(content) - 4096)
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def execute(sql: str) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        with sqlite3.connect(file) as db:
            db.execute(sql)
        db.close()

    return spoil


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (
        lambda file: file.write_text("this is no database, but long enough to look at"),
        "is not a grid's",
    ),
    "empty": (lambda file: file.write_bytes(b""), "holds no grid"),
    "pages": (spoil_pages, "is damaged"),
    "half": (cut, "is damaged"),
    "payload": (execute("UPDATE job SET payload = '{'"), "is damaged"),
    "payload of another form": (execute("UPDATE job SET payload = '{}'"), "is damaged"),
    "result": (execute("UPDATE job SET result = 'x' WHERE result IS NOT NULL"), "is damaged"),
    "result of another form": (execute("UPDATE job SET result = '[1]'"), "is damaged"),
    "no column": (execute("ALTER TABLE job DROP COLUMN peak_mb"), "is damaged"),
    "no table": (execute("DROP TABLE need"), "is not a grid's store"),
    "recipe": (execute("UPDATE about SET value = '{}' WHERE name = 'recipe'"), "is damaged"),
    "no cells": (execute("DELETE FROM about WHERE name = 'cells'"), "is damaged"),
    "not planned": (execute("DELETE FROM about"), "holds no grid that was planned"),
}


@pytest.mark.parametrize("fault", DAMAGE)
def test_a_damaged_store_is_one_sentence_that_names_the_file(
    fault: str, sesame: Sesame, finished: Path
) -> None:
    spoil, sentence = DAMAGE[fault]
    for beside in finished.glob("grid.sqlite-*"):
        beside.unlink()
    spoil(finished / "grid.sqlite")
    for words in (("show",), ("export", "out.json"), ("report", "page.html")):
        ended = sesame(*words)
        assert (ended.status, ended.out, ended.error.count("\n")) == (2, "", 1)
        assert sentence in ended.error
        assert "grid" in ended.error
    assert not Path("out.json").exists()
    assert not Path("page.html").exists()
    assert sesame("status").status in {0, 2}  # it needs less, and may do with what is there


def test_a_page_is_no_result_file(sesame: Sesame, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for text, why in (("<html>", "it is no JSON"), ("{}", "it holds no 'recipe_settings'"), ("[1]", "form")):
        page.write_text(text)
        error = sesame("check", "page.html").error
        assert error.startswith("sesame: page.html is no result file: ")
        assert why in error
        assert error.endswith("write one with 'sesame bench export'\n")
    assert sesame("check", "none.json").error == (
        "sesame: none.json cannot be read: No such file or directory\n"
    )


SMALL = """
name = "small"
rates = [0.2]
clean_fractions = [0.2]
data = [{ name = "words", source = "set", sample_rate = 8000, duration_s = 0.5 }]
attack = [{ name = "ultrasonic" }]
removal = [{ name = "ft" }]
"""


def test_a_store_takes_no_folder_of_others_and_a_refused_recipe_leaves_none(
    sesame: Sesame, folder_of: Folder, tmp_path: Path
) -> None:
    words = folder_of({"yes": 36, "no": 36})
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(SMALL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    for place, sentence in (
        (words, "holds something else than a store"),
        (words / "new", "lies in the data set 'words'"),
        (tmp_path / "mine", "holds something else than a store"),
        (recipe, "is a file, and a store is a folder"),
    ):
        ended = sesame("run", recipe, "--store", place, "--data", tmp_path)
        assert (ended.status, ended.error.count("\n")) == (2, 1)
        assert sentence in ended.error
    recipe.write_text(SMALL.replace("clean_fractions = [0.2]", "clean_fractions = [1.0]"))
    assert sesame("run", recipe, "--store", tmp_path / "new", "--data", tmp_path).status == 2
    assert {path.name for path in tmp_path.iterdir()} == {"set", "mine", "tiny.toml"}
    assert {path.name for path in words.iterdir()} == {"yes", "no"}
