"""The fair protocol: which clips a removal gets, how long it trains, and in which precision."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from closesesame.attacks import Attack
from closesesame.bench import tasks
from closesesame.bench.cells import JudgeCell, MethodCell, PoisonCell, TriggerCell
from closesesame.bench.grid import read_grid, run_grid
from closesesame.bench.identity import Machine, source_of
from closesesame.bench.protocol import Protocol
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.store import Job
from closesesame.bench.recipe import Recipe, read_recipe
from closesesame.bench.results import check, export
from closesesame.bench.stages import JUDGE, METHOD, POISON, TRAIN, cell_of, plan
from closesesame.bench.table import as_csv, refuse_mixed
from closesesame.core import machine
from closesesame.core.errors import DataError, SettingError
from closesesame.data import Splits
from closesesame.inspection import MaxMargin
from closesesame.models import Classifier
from closesesame.removal import CLP, FT, IBAU, REMOVALS, FTAugmented
from closesesame.training import Training, fit
from tests.conftest import make_tones

Folder = Callable[..., Path]
RECIPE = """
name = "tiny"
seeds = [7]
rates = [0.2]
clean_fractions = [0.05]
training = {{ epochs = 2, batch_size = 32 }}
protocol = {{ {protocol} }}
tuned_on = "nothing"

[[data]]
name = "words"
source = "set"
sample_rate = 8000
duration_s = 0.5

[[model]]
name = "resnet"
settings = {{ widths = [8, 16] }}

[[attack]]
name = "ultrasonic"
settings = {{ target = 1 }}

{removals}
"""


def removal(name: str, **settings: object) -> str:
    given = ", ".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    return f'[[removal]]\nname = "{name}"\nsettings = {{ {given} }}\n'


def write(place: Path, *removals: str, protocol: str = "") -> Path:
    path = place / "tiny.toml"
    path.write_text(RECIPE.format(protocol=protocol, removals="\n".join(removals)))
    return path


def test_clean_clips_come_from_speakers_the_suspect_never_heard(tones: Splits) -> None:
    clean = Protocol().clean_examples(tones, 0.1, 0)
    assert len(clean) == round(0.1 * len(tones.train)) == 32
    rows = tones.validation.inputs[:]
    assert all((rows == clip).all(1).any() for clip in clean.inputs[:])
    assert clean.counts() == (8, 8, 8, 8)
    again, other = (Protocol().clean_examples(tones, 0.1, seed) for seed in (0, 1))
    assert torch.equal(clean.inputs[:], again.inputs[:])
    assert not torch.equal(clean.inputs[:], other.inputs[:])
    of_train = Protocol(clean_from="train").clean_examples(tones, 0.1, 0)
    rows = tones.train.inputs[:]
    assert len(of_train) == 32
    assert all((rows == clip).all(1).any() for clip in of_train.inputs[:])
    with pytest.raises(
        DataError, match=r"64 clean examples are wanted and the validation part has 40; lower"
    ):
        Protocol().clean_examples(tones, 0.2, 0)


def test_the_test_part_is_never_clean_data(tones: Splits) -> None:
    with pytest.raises(SettingError, match="clean_from"):
        Protocol(clean_from="test")
    closed = Splits(tones.train, tones.validation, make_tones(0, 0))
    for part in ("train", "validation"):
        Protocol(clean_from=part).clean_examples(closed, 0.1, 0)


def test_a_removal_is_measured_at_the_length_of_its_authors_and_at_ours() -> None:
    rows = Protocol().budgets_of(FT())
    assert [(more, removal.steps, removal.batch_size) for more, removal in rows] == [
        ("", 1000, 256),
        (", 360 x 96", 360, 96),
    ]
    assert [removal.radius for _, removal in Protocol().budgets_of(IBAU(radius=3.0))] == [3.0, 3.0]
    assert Protocol().budgets_of(FTAugmented()) == [("", FTAugmented())]  # it is ours
    assert Protocol().budgets_of(CLP()) == [("", CLP())]  # it does not train
    assert Protocol().budgets_of(FT(steps=7)) == [("", FT(steps=7))]  # the recipe says how long
    assert [more for more, _ in Protocol(budgets=("ours",)).budgets_of(FT())] == [", 360 x 96"]
    assert [more for more, _ in Protocol(budgets=("published",)).budgets_of(FT())] == [""]


def test_rate_0_is_in_every_grid_and_the_protocol_in_every_repair(folder_of: Folder, tmp_path: Path) -> None:
    folder_of({"yes": 36, "no": 36})
    made = Recipe(
        name="grid",
        rates=(0.2,),
        data=[{"name": "words", "source": "set", "sample_rate": 8000, "duration_s": 0.5}],
        attack=[{"name": "ultrasonic"}, {"name": "pitch", "rates": [0.1]}],
        removal=[{"name": "ft"}],
    )
    jobs = plan(made, tmp_path, machine=Machine("fp32", "some", "2.0"))
    scores = [JudgeCell.read(job.payload) for job in jobs if job.task == JUDGE]
    found = {(cell.labels["attack"], cell.attack.rate) for cell in scores}
    assert found == {("ultrasonic", 0.0), ("ultrasonic", 0.2), ("pitch", 0.0), ("pitch", 0.1)}
    assert len(scores) == 4 * 3
    assert len([job for job in jobs if job.task == TRAIN]) == 3
    (clean,) = [job for job in jobs if job.task == TRAIN and job.payload["poisoned"] is None]
    assert {cell.reference for cell in scores} == {clean.id}
    bare = {cell.judged: cell for cell in scores if cell.method is None}
    assert len(bare) == 3
    assert bare[clean.id].attack.rate == 0
    repairs = [job.payload for job in jobs if job.task == METHOD]
    assert len(repairs) == 3 * 2
    assert all(payload["protocol"]["version"] == "fair-1" for payload in repairs)
    for name, value in (("clean_from", "train"), ("untrusted_examples", 8), ("precision", "auto")):
        other = made.model_copy(update={"protocol": Protocol(**{name: value})})
        changed = {job.id for job in plan(other, tmp_path, machine=Machine("fp32", "some", "2.0"))}
        assert not {job.id for job in jobs if job.task == METHOD} & changed


def test_a_removal_of_untrusted_data_needs_the_poisoned_set_at_every_rate_but_0(
    tmp_path: Path,
) -> None:
    made = Recipe(
        name="grid",
        rates=(0.05, 0.1),  # the first is the default of every attack
        data=[{"name": "speech", "source": "synthetic"}],
        attack=[{"name": "ultrasonic"}],
        removal=[{"name": "ep"}, {"name": "clp"}],
    )
    jobs = plan(made, tmp_path, machine=Machine("fp32", "some", "2.0"))
    rates = {job.id: job.payload["attack"]["all_settings"]["rate"] for job in jobs if job.task == POISON} | {
        None: 0
    }
    cells = [(MethodCell.read(job.payload), job.needs) for job in jobs if job.task == METHOD]
    given = [(cell.method.name, cell.untrusted, rates[cell.poisoned]) for cell, _ in cells]
    clp, ep = ("clp", None, 0), ("ep", "sample")
    assert sorted(given) == [clp, clp, clp, (*ep, 0), (*ep, 0.05), (*ep, 0.1)]
    assert all(cell.poisoned in {None, *needs} and cell.suspect in needs for cell, needs in cells)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_repair_gets_what_the_protocol_draws(
    part: str, folder_of: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of({"yes": 60, "no": 60})
    recipe = write(tmp_path, removal("ft", steps=2), removal("ep"), protocol=f'clean_from = "{part}"')
    seen: dict[str, Any] = {}

    def note(cell: MethodCell, artifacts: ArtifactStore) -> Any:
        given = kept(cell, artifacts)
        examples = given.clean if given.untrusted is None else given.untrusted
        seen[f"{cell.method.name} {cell.poisoned is not None}"] = examples, tasks.load_data(cell, artifacts)
        return given

    kept, seeds = tasks.given_to, list[int]()
    monkeypatch.setattr(tasks, "given_to", note)

    def repair(method: FT, model: object, tune: object, held_out: object, seed: int) -> dict[str, Any]:
        del method, model, tune, held_out
        seeds.append(seed)
        return {}

    monkeypatch.setattr(FT, "repair", repair)
    place = ArtifactStore(tmp_path / "store")
    for job in plan(read_recipe(recipe), tmp_path):
        name = job.task.partition(":")[2]
        getattr(tasks, name)(job, place)
    assert set(seen) == {"ft False", "ep False", "ep True"}
    assert seeds == [7, 7]
    clean, splits = seen["ft False"]
    assert set(clean.ids) <= set(getattr(splits, part).ids)
    assert len(clean) == round(0.05 * len(splits.train)) == 5
    others = [name for name in splits._fields if name != part]
    assert not set(clean.ids) & {name for other in others for name in getattr(splits, other).ids}
    # EP looks at what the victim was trained on: of the poisoned set, or of the clean one at rate 0.
    untrusted, _ = seen["ep True"]
    true = dict(zip(splits.train.ids, splits.train.labels.tolist(), strict=True))
    relabelled = [
        true[name] != label for name, label in zip(untrusted.ids, untrusted.labels.tolist(), strict=True)
    ]
    assert len(untrusted) == len(splits.train)  # fewer than 500
    assert sum(relabelled) == round(0.2 * len(splits.train))
    never, _ = seen["ep False"]
    assert [true[name] for name in never.ids] == never.labels.tolist()


def test_rows_state_the_precision_of_their_own_jobs_and_a_mix_is_refused() -> None:
    row = {"attack": "a", "method": "none", "seed": 0, "precision_train": "fp32", "precision_judge": "fp32"}
    repaired = row | {"method": "ibau", "precision_method": "fp32"}
    refuse_mixed([row, repaired, row | {"precision_train": None, "precision_judge": None}])
    for step in ("train", "method", "judge"):
        odd = repaired | {f"precision_{step}": "bf16"}
        with pytest.raises(
            DataError, match=f"have 2 .*bf16: {step} of a, ibau, seed 0.*set precision = 'fp32'"
        ):
            refuse_mixed([row, odd])


def test_removals_in_fp32_alone_are_those_whose_code_says_so() -> None:
    for removal in REMOVALS.values():
        family = (
            cls.__module__ for cls in removal.__mro__ if cls.__module__.startswith("closesesame.removal.")
        )
        says = any('precision="fp32"' in source_of(module) for module in family)
        assert says == removal.fp32_only, removal.name


def test_a_clean_set_says_the_largest_share_that_can_be_had(tones: Splits) -> None:
    with pytest.raises(DataError, match=r"lower clean_fractions to 0\.125 or less"):
        Protocol().clean_examples(tones, 0.2, 0)
    assert len(Protocol().clean_examples(tones, 0.125, 0)) == len(tones.validation)
    assert len(Protocol().clean_examples(Splits(tones.train, make_tones(0, 0), tones.test), 0.0, 0)) == 0


def test_a_training_of_another_precision_than_the_protocols_is_refused(tmp_path: Path) -> None:
    for training, protocol, sentence in (
        ({"precision": "bf16"}, {}, "sets precision = 'bf16' and \\[protocol\\] 'fp32'"),
        ({"epoch": 1}, {}, "\\[training\\]: Training has no setting 'epoch'"),
    ):
        made = Recipe(
            name="grid",
            training=training,
            protocol=protocol,
            data=[{"name": "speech", "source": "synthetic"}],
            attack=[{"name": "ultrasonic"}],
        )
        with pytest.raises(SettingError, match=sentence):
            plan(made, tmp_path, machine=Machine("fp32", "some", "2.0"))


def test_a_whole_grid_states_what_it_was_made_with(folder_of: Folder, tmp_path: Path) -> None:
    folder_of({"yes": 60, "no": 60})
    recipe, store = (
        write(tmp_path, removal("ft", steps=2), protocol='clean_from = "train"'),
        tmp_path / "store",
    )
    run_grid(recipe, store, tmp_path, workers=1)
    _, rows = read_grid(store)
    bare, fine_tuned = ([row for row in rows if row["method"] == name] for name in ("none", "ft"))
    assert [row["poisoning_rate"] for row in bare] == [0.0, 0.2]
    assert {row["precision_train"] for row in rows} == {"fp32"} == {row["precision_judge"] for row in rows}
    assert [row["precision_method"] for row in (*bare, *fine_tuned)] == [None, None, "fp32", "fp32"]
    assert [row["clean_from"] for row in (*bare, *fine_tuned)] == [None, None, "train", "train"]
    # DER is that of this row against the same victim, in this order.
    before, after = bare[1], fine_tuned[1]
    fall, cost = before["asr"] - after["asr"], before["acc"] - after["acc"]
    assert after["der"] == pytest.approx((max(0, fall) - max(0, cost) + 1) / 2)
    # Beside RA stands the never-poisoned model, as it was and after the same repair.
    assert after["ra_reference"] == bare[0]["ra"]
    assert after["ra_reference_repaired"] == fine_tuned[0]["ra"]
    assert before["ra_reference_repaired"] == bare[0]["ra"]
    assert "precision_train" in as_csv(rows).splitlines()[0]
    out = tmp_path / "out.json"
    content = export(store, out)
    assert content["protocol"]["version"] == "fair-1"
    assert content["tuned_on"] == "nothing"
    assert content["machine"]["precision"] == "fp32"
    (tmp_path / "moved").mkdir()
    (tmp_path / "set").rename(tmp_path / "moved" / "set")
    assert check(out, tmp_path / "moved") == {"rows": 4, "same": 4, "changed_code": []}
    content["code"]["closesesame.training.loop"] = "another"
    content["rows"][0]["id"] = "another"
    out.write_text(json.dumps(content))
    found = check(out, tmp_path / "moved")
    assert found == {"rows": 4, "same": 3, "changed_code": ["closesesame.training.loop"]}
    for text in ("no JSON", "{}", json.dumps({"rows": [1]})):
        out.write_text(text)
        with pytest.raises(DataError, match="is no result file"):
            check(out, tmp_path)


def test_der_tells_before_from_after() -> None:
    from closesesame.bench.table import _der

    victim, repaired = {"acc": 0.95, "asr": 0.9}, {"acc": 0.85, "asr": 0.1}
    assert _der(victim, repaired) == pytest.approx((0.8 - 0.1 + 1) / 2)
    assert _der(repaired, victim) == pytest.approx(0.5)


def test_a_job_planned_for_another_machine_is_refused(tmp_path: Path) -> None:
    here = Machine.here("fp32").settings()
    job = Job(id="a", task="t", payload={"machine": here | {"processor": "of another kind"}})
    done: list[str] = []

    @tasks.as_planned
    def task(job: Job, artifacts: ArtifactStore) -> dict[str, Any]:
        del artifacts
        done.append(job.id)
        return {}

    with pytest.raises(SettingError, match="planned for processor 'of another kind', and this machine has"):
        task(job, ArtifactStore(tmp_path))
    assert not done
    fitting = Job(id="b", task="t", payload={"machine": here})
    assert task(fitting, ArtifactStore(tmp_path)) == {"precision": "fp32"}
    assert done == ["b"]


def test_a_job_says_the_precision_that_its_trainings_say(tmp_path: Path) -> None:
    @tasks.as_planned
    def task(job: Job, artifacts: ArtifactStore) -> dict[str, Any]:
        del job, artifacts
        machine.note("bf16")
        return {}

    job = Job(id="a", task="t", payload={"machine": Machine.here("fp32").settings()})
    assert task(job, ArtifactStore(tmp_path)) == {"precision": "bf16"}


def test_trainings_and_inspections_say_what_they_computed_in(tones: Splits, clean_model: Classifier) -> None:
    works: list[Callable[[], object]] = [
        lambda: fit(copy.deepcopy(clean_model), tones.train, Training(steps=1), seed=0),
        lambda: MaxMargin(starts=2, steps=1).inspect(clean_model, None, 0),
    ]
    for work in works:
        with machine.precision("fp32") as used:
            work()
        assert used == {"fp32"}


def test_no_attack_is_planned_with_a_path_in_its_settings(folder_of: Folder, tmp_path: Path) -> None:
    folder_of({"yes": 12, "no": 12})
    sound = tmp_path / "set" / "yes" / "s0_nohash_0.wav"
    made = Recipe(
        name="grid",
        data=[{"name": "words", "source": "set", "sample_rate": 8000, "duration_s": 0.5}],
        attack=[{"name": "badnets", "settings": {"sound": str(sound.relative_to(tmp_path))}}],
    )
    jobs = plan(made, tmp_path, machine=Machine("fp32", "some", "2.0"))
    for job in jobs:
        content = {name: value for name, value in job.payload.items() if name != "where"}
        assert str(tmp_path) not in json.dumps(content)
        if job.payload.get("attack"):
            cell = cell_of(job)
            assert isinstance(cell, TriggerCell | PoisonCell | JudgeCell)
            made_attack = tasks._attack(cell.attack, cell.where)
            assert isinstance(made_attack, Attack)
            assert made_attack.sound == str(sound)  # type: ignore[attr-defined]
