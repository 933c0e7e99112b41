"""The engine: every job once, whatever dies."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from closesesame.bench import tasks
from closesesame.bench.grid import run_grid
from closesesame.bench.queue import runner as runner_module
from closesesame.bench.queue import store as store_module
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.ray import run_on_ray
from closesesame.bench.queue.runner import only_driver
from closesesame.bench.queue.runner import run as drive
from closesesame.bench.queue.store import Job, Outcome, Store
from closesesame.bench.queue.worker import Scope, perform
from closesesame.bench.recipe import AttackEntry, Recipe
from closesesame.bench.stages import JUDGE, POISON, TRIGGER, plan
from closesesame.core.errors import DataError, SettingError
from closesesame.data import Splits

TASKS = "tests.bench.tasks"
SCOPE = Scope(tasks=(TASKS,))


def run(folder: Path, *, workers: int, timeout_s: float = 3600.0) -> None:
    drive(folder, workers=workers, timeout_s=timeout_s, scope=SCOPE)


def job(name: str, task: str, needs: tuple[str, ...] = (), **payload: Any) -> Job:
    return Job(id=name, task=f"{TASKS}:{task}", payload=payload, needs=needs, label=f"job {name}")


def chain(n: int) -> list[Job]:
    """Half of the jobs need one of the other half."""
    first = [job(f"a{i}", "slow", text=f"<{i}>") for i in range(n // 2)]
    return first + [job(f"b{i}", "slow", tuple({f"a{i % 5}", f"a{i}"}), text=f"[{i}]") for i in range(n // 2)]


def results(folder: Path) -> dict[str, Any]:
    store = Store(folder)
    found = {row.job.id: row.result for row in store.rows()}
    store.close()
    return found


def filled(folder: Path, jobs: list[Job]) -> Store:
    store = Store(folder)
    store.add(jobs)
    return store


def test_a_job_waits_for_what_it_needs_and_is_added_once(tmp_path: Path) -> None:
    store = filled(tmp_path, [job("a", "empty", number=1), job("b", "empty", ("a",), number=2)])
    assert store.add([job("a", "empty", number=1)]) == 0
    first = store.claim("me")
    assert first is not None
    assert (first.id, store.claim("you")) == ("a", None)
    assert store.finish("a", "me", Outcome(result=1))
    second = store.claim("you")
    assert second is not None
    assert (second.id, second.needs) == ("b", ("a",))


def test_what_another_recipe_left_open_rests_until_it_is_asked_for(tmp_path: Path) -> None:
    def numbers() -> dict[str, int | None]:
        return {name: found and found["number"] for name, found in results(tmp_path).items()}

    left = [job("a", "empty", number=1), job("b", "empty", ("a",), number=2), job("c", "empty", number=3)]
    store = filled(tmp_path, left)
    asked = [left[0], job("d", "empty", ("a",), number=4)]
    store.add(asked)
    store.pause_all_but(one.id for one in asked)
    assert store.counts()["pending"] == 2
    run(tmp_path, workers=1)
    assert numbers() == {"a": 1, "b": None, "c": None, "d": 4}
    store.pause_all_but(one.id for one in left)
    run(tmp_path, workers=1)
    assert numbers() == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_a_lease_that_ran_out_is_taken_over_and_the_late_one_records_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LEASE_S", 0.05)
    store = filled(tmp_path, [job("a", "empty", number=1)])
    assert store.claim("slow") is not None
    assert store.claim("quick") is None
    time.sleep(0.1)
    assert store.claim("quick") is not None
    assert not store.finish("a", "slow", Outcome(result="late"))
    assert store.finish("a", "quick", Outcome(result="in time"))
    assert not store.finish("a", "quick", Outcome(result="again"))
    assert results(tmp_path) == {"a": "in time"}
    assert store.completions() == {"a": 1}


def test_a_renewed_lease_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LEASE_S", 0.2)
    store = filled(tmp_path, [job("a", "empty", number=1)])
    store.claim("me")
    for _ in range(4):
        time.sleep(0.1)
        store.renew("me")
        assert store.claim("other") is None


def test_failures_are_recorded_in_one_sentence_and_reach_what_needed_them(tmp_path: Path) -> None:
    jobs = [
        job("good", "slow", text="x"),
        job("wrong", "wrong"),
        job("broken", "broken"),
        job("user", "slow", ("wrong", "good"), text="y"),
        job("user of user", "slow", ("user",), text="z"),
    ]
    store = filled(tmp_path, jobs)
    run(tmp_path, workers=2)
    errors = {row.job.id: row.error for row in store.rows()}
    assert errors == {
        "good": None,
        "wrong": "the clip is empty; remove it",
        "broken": "ValueError: first line second line",
        "user": "needs 'job wrong', which failed: the clip is empty; remove it",
        "user of user": "needs 'job wrong', which failed: the clip is empty; remove it",
    }
    assert store.counts() == {"pending": 0, "leased": 0, "done": 1, "failed": 4}
    store.add([job("late user", "slow", ("wrong", "good"), text="late")])
    late = next(row for row in store.rows() if row.job.id == "late user")
    assert (late.state, late.error) == ("failed", errors["user"])
    run(tmp_path, workers=1)  # ends at once: nothing waits for what will never come
    assert store.retry_failed() == 5
    assert store.counts()["pending"] == 5
    claimed = [store.claim("me"), store.claim("me"), store.claim("me")]
    assert [found.id if found else None for found in claimed] == ["wrong", "broken", None]


def test_a_worker_that_dies_or_hangs_is_replaced_and_its_job_tried_again(tmp_path: Path) -> None:
    jobs = [
        job("once", "deadly_once"),
        job("always", "deadly"),
        job("hangs", "hanging"),
        job("good", "slow", text="x"),
    ]
    store = filled(tmp_path, jobs)
    run(tmp_path, workers=2, timeout_s=1.0)
    rows = {row.job.id: row for row in store.rows()}
    assert rows["once"].result == {"text": "second time"}
    assert rows["once"].tries == 2
    assert rows["good"].result == {"text": "x"}
    for name in ("always", "hangs"):
        assert rows[name].state == "failed"
        assert rows[name].tries == 3
    assert rows["always"].error == (
        "in the last of 3 tries its worker was killed by SIGKILL; is there memory enough, or were fewer "
        "workers better?"
    )
    assert rows["hangs"].error == "in the last of 3 tries it took longer than --timeout-s 1"


def driver(folder: Path, workers: int = 2) -> "subprocess.Popen[bytes]":
    code = (
        "import sys; from pathlib import Path; from closesesame.bench.queue.runner import run\n"
        "from closesesame.bench.queue.worker import Scope\n"
        f"run(Path(sys.argv[1]), workers=int(sys.argv[2]), scope=Scope(({TASKS!r},)))"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(folder), str(workers)])


def workers_of(driver_pid: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == driver_pid and fields[0] != "Z":
            found.append(int(place.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers in /proc")
def test_kill_9_at_random_moments_loses_nothing_and_runs_nothing_twice(tmp_path: Path) -> None:
    jobs = chain(60)
    filled(tmp_path / "calm", jobs)
    run(tmp_path / "calm", workers=2)
    filled(tmp_path / "storm", jobs).describe(tries="100")
    rng, kills = random.Random(0), 0
    process = driver(tmp_path / "storm")
    while kills < 6:
        time.sleep(rng.uniform(0.3, 0.9))
        if process.poll() is not None:
            break
        victims = workers_of(process.pid)
        target = process.pid if kills % 3 == 2 or not victims else rng.choice(victims)
        os.kill(target, signal.SIGKILL)
        kills += 1
        if target == process.pid:
            process.wait()
            process = driver(tmp_path / "storm")
    process.wait(120)
    assert kills >= 3
    assert results(tmp_path / "storm") == results(tmp_path / "calm")
    completions = Store(tmp_path / "storm").completions()
    assert completions == dict.fromkeys([j.id for j in jobs], 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_puts_everything_back_in_order(tmp_path: Path, number: signal.Signals) -> None:
    store = filled(tmp_path, [job(f"j{i}", "slow", text="x", seconds=30) for i in range(4)])
    process = driver(tmp_path)
    until(lambda: store.counts()["leased"] == 2)
    process.send_signal(number)
    process.wait(20)
    assert store.counts() == {"pending": 4, "leased": 0, "done": 0, "failed": 0}
    assert all(row.tries == 0 for row in store.rows())
    assert not workers_of(process.pid)


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    with only_driver(tmp_path), pytest.raises(DataError, match="another run is at work"):
        run(tmp_path, workers=1)
    recipe = tmp_path / "quick.toml"
    recipe.write_text(
        'name = "quick"\n[[data]]\nname = "tones"\nsource = "synthetic"\n[[attack]]\nname = "badnets"\n'
    )
    with only_driver(tmp_path), pytest.raises(DataError, match="another run is at work"):
        run_grid(recipe, tmp_path, tmp_path)
    assert not results(tmp_path)
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "grid.sqlite").write_text("this is no database, but long enough to look at")
    with pytest.raises(DataError, match="is not a grid's store"):
        Store(tmp_path / "no")


def test_workers_of_a_killed_driver_end_by_themselves(tmp_path: Path) -> None:
    store = filled(tmp_path, [job("j", "slow", text="x", seconds=60)])
    process = driver(tmp_path, workers=1)
    until(lambda: store.counts()["leased"] == 1)
    (worker,) = workers_of(process.pid)
    process.kill()
    process.wait()
    until(lambda: not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text())


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_peak_memory_is_that_of_the_job(tmp_path: Path) -> None:
    size = 300 * 2**20
    store = filled(tmp_path, [job("big", "hungry", bytes=size), job("small", "hungry", bytes=1)])
    run(tmp_path, workers=1)
    big, small = (row.peak_mb or 0 for row in store.rows())
    assert 250 < big - small < 400


def test_the_cache_keeps_the_size_limit_and_makes_each_thing_once(tmp_path: Path) -> None:
    place, made = ArtifactStore(tmp_path, cache_bytes=2500), []

    def maker(name: str) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            made.append(name)
            (folder / "x").write_bytes(bytes(1000))

        return make

    for number, name in enumerate(["a", "b", "a", "c", "a", "b"]):
        folder = place.cached(name, maker(name))
        os.utime(folder, (number, number))
        assert (folder / "x").stat().st_size == 1000
    assert made == ["a", "b", "c", "b"]  # b was the least used when c came
    with pytest.raises(ZeroDivisionError):
        place.keep("bad", lambda folder: (folder / "half").write_text(str(1 / 0)))
    assert not place.artifact("bad").exists()
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_ray_gives_the_same_results_and_recovers_a_killed_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    jobs = [*chain(12), job("once", "deadly_once"), job("wrong", "wrong")]
    here, there = filled(tmp_path / "here", jobs), filled(tmp_path / "there", jobs)
    run(tmp_path / "here", workers=2)
    run_on_ray(tmp_path / "there", "local", workers=2, scope=SCOPE)
    rows = {row.job.id: row for row in there.rows()}
    assert {name: row.result for name, row in rows.items()} == results(tmp_path / "here")
    assert {name: row.error for name, row in rows.items()} == {r.job.id: r.error for r in here.rows()}
    assert rows["once"].tries == 2
    assert max(there.completions().values()) == 1


def test_a_trigger_is_made_once_for_whoever_uses_it(tmp_path: Path) -> None:
    tone = {"name": "ultrasonic"}
    recipe = Recipe(
        name="grid",
        seeds=(0, 1),
        rates=(0.0, 0.1, 0.2),
        data=[{"name": "speech", "source": "synthetic"}],
        model=[{"name": "resnet"}, {"name": "small_cnn"}],
        attack=[tone, {**tone, "label": "b", "settings": {"training_strength": 0.5}}],
        removal=[{"name": "ft"}, {"name": "clp"}],
    )
    jobs = plan(recipe, tmp_path)
    triggers = {job.payload["seed"]: job.id for job in jobs if job.task == TRIGGER}
    assert [job.task for job in jobs][:2] == [TRIGGER] * 2 != [job.task for job in jobs][2:4]
    judges = [job for job in jobs if job.task == JUDGE]
    poisoned = [job for job in jobs if job.task == POISON]
    # seeds x models x attacks x rates x (bare, ft at two lengths, clp)
    assert len(judges) == 2 * 2 * 2 * 3 * 4
    # One set for both models: seeds x attacks x rates.
    assert len(poisoned) == 2 * 2 * 2
    users = [*judges, *poisoned]
    assert all(triggers[job.payload["seed"]] in job.needs for job in users)
    louder = recipe.model_copy(update={"attack": (AttackEntry(**tone, settings={"strength": 2}),)})
    assert not set(triggers.values()) & {job.id for job in plan(louder, tmp_path)}


# What may run, and what a store, a disk or a system can do


def test_only_tasks_of_the_drivers_choice_run_whatever_a_row_says(tmp_path: Path) -> None:
    named = ["antigravity:geohash", "tests.bench.tasks:os", "tests.bench.tasks:nothing", "os:abort", ""]
    rows = [Job(id=f"{at}", task=name, payload={}, label=name) for at, name in enumerate(named)]
    store = filled(tmp_path, rows)
    run(tmp_path, workers=1)
    for row, name in zip(store.rows(), named, strict=True):
        said = f"the store asks for the task {name!r}, and only these are run: tests.bench.tasks:empty, "
        assert said in str(row.error)
    assert "antigravity" not in sys.modules
    with pytest.raises(DataError, match="only these are run: closesesame.bench.tasks:make_trigger"):
        Scope().load().find("tests.bench.tasks:empty")


HOSTILE = {"name": "antigravity:Thing", "settings": {}, "all_settings": {}, "module": "antigravity"}
CELL = {
    "data": {"entry": {"name": "words"}, "fingerprint": "f"},
    "seed": 0,
    "machine": {},
    "where": {"data_folder": "", "read_by": ""},
}


@pytest.mark.parametrize(("family", "task"), [("attack", "make_trigger"), ("model", "train_suspect")])
def test_a_payload_makes_nobody_import_a_module(
    family: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tones: Splits
) -> None:
    monkeypatch.setattr(tasks, "load_data", lambda about, artifacts: tones)
    hostile = Job(
        id="a", task="t", payload=CELL | {family: HOSTILE} | ({"training": {}} if family == "model" else {})
    )
    with pytest.raises(SettingError, match="'antigravity:Thing' is not ours"):
        tasks.TABLE[task].__wrapped__(hostile, ArtifactStore(tmp_path))  # type: ignore[attr-defined]
    assert "antigravity" not in sys.modules


def test_the_payload_of_a_repair_makes_nobody_import_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "load_model", lambda folder: None)
    payload = CELL | {"family": "removal", "method": HOSTILE, "suspect": "s"}
    with pytest.raises(SettingError, match="'antigravity:Thing' is not ours"):
        tasks.run_method.__wrapped__(Job(id="a", task="t", payload=payload), ArtifactStore(tmp_path))  # type: ignore[attr-defined]
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("scope", "sentence"),
    [
        (Scope(("tests.bench.gone",)), "module 'tests.bench.gone' cannot be imported (ModuleNotFoundError"),
        (Scope((TASKS,), ("no_such_methods",)), "module 'no_such_methods' cannot be imported"),
    ],
)
def test_workers_that_cannot_start_end_the_run_with_what_they_said(
    scope: Scope, sentence: str, tmp_path: Path
) -> None:
    store = filled(tmp_path, [job("a", "empty", number=1)])
    with pytest.raises(DataError) as error:
        drive(tmp_path, workers=1, scope=scope)
    assert str(error.value).startswith(f"no worker can work in {tmp_path}: {sentence}")
    assert store.counts()["pending"] == 1
    assert [row.tries for row in store.rows()] == [0]


def test_an_interpreter_that_is_not_there_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, [job("a", "empty", number=1)])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(DataError, match="no worker can be started: .*python: No such file"):
        run(tmp_path, workers=1)


def test_a_task_that_ends_its_worker_again_and_again_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "MOST_DEATHS", 2)
    store = filled(tmp_path, [job("a", "quitting")])
    with pytest.raises(DataError, match="no worker can work in"):
        run(tmp_path, workers=1)
    assert store.counts()["pending"] == 1


def test_a_result_that_is_no_json_fails_its_job_alone(tmp_path: Path) -> None:
    tasks = SCOPE.load()
    outcome = perform(job("a", "unspeakable"), ArtifactStore(tmp_path), tasks)
    assert outcome.result is None
    assert "not JSON serializable" in str(outcome.error)


def full(store: Store) -> None:
    """Lets the file of a store grow no more, as on a full disk."""
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_at_the_last_moment_leaves_the_job_to_be_claimed_and_what_was_recorded(
    tmp_path: Path,
) -> None:
    store = filled(tmp_path, [job("a", "empty", number=1), job("b", "empty", number=2)])
    store.claim("me")
    assert store.finish("a", "me", Outcome(result={"kept": 1}))
    store.claim("me")
    full(store)
    with pytest.raises(DataError, match=r"grid.sqlite: the disk is full; make room and start"):
        store.finish("b", "me", Outcome(result="x" * 100_000))
    store._db.execute("PRAGMA max_page_count = 1000000")  # somebody made room
    assert store.release("me") == 1
    assert store.claim("you") is not None
    assert store.finish("b", "you", Outcome(result={"kept": 2}))
    assert results(tmp_path) == {"a": {"kept": 1}, "b": {"kept": 2}}
    assert store.completions() == {"a": 1, "b": 1}


def test_a_store_that_cannot_be_written_blames_no_job_and_ends_the_run(tmp_path: Path) -> None:
    store = filled(tmp_path, [job("a", "empty", number=1)])
    # A trigger that refuses every result stands for a disk that is full whenever one comes.
    store._db.execute(
        "CREATE TRIGGER full BEFORE UPDATE OF result ON job WHEN new.result IS NOT NULL"
        " BEGIN SELECT raise(FAIL, 'no room'); END"
    )
    with pytest.raises(DataError, match="no worker can work in .*no room"):
        run(tmp_path, workers=1)
    assert [(row.state, row.tries) for row in store.rows()] == [("pending", 0)]
    store._db.execute("DROP TRIGGER full")
    run(tmp_path, workers=1)
    assert results(tmp_path) == {"a": {"number": 1}}


def test_a_disk_that_is_full_for_a_job_blames_no_job_and_ends_the_run(tmp_path: Path) -> None:
    store = filled(tmp_path, [job("a", "crowded")])
    with pytest.raises(DataError, match="no worker can work in .*: the disk is full; make room"):
        run(tmp_path, workers=1)
    assert [(row.state, row.tries) for row in store.rows()] == [("pending", 0)]


def test_a_store_another_program_holds_or_nobody_may_write_is_one_sentence(tmp_path: Path) -> None:
    for code, sentence in (
        (sqlite3.SQLITE_BUSY, "another program holds it; wait"),
        (sqlite3.SQLITE_READONLY, "it cannot be written; copy the folder"),
        (sqlite3.SQLITE_CANTOPEN, "it cannot be opened; make sure"),
        (sqlite3.SQLITE_IOERR | 3 << 8, "the disk does not read or write"),
        (sqlite3.SQLITE_CORRUPT, "is damaged (some reason)"),
    ):
        error = sqlite3.OperationalError("some reason")
        error.sqlite_errorcode = code
        with pytest.raises(DataError) as found, Store(tmp_path)._in_words():
            raise error
        assert str(found.value).startswith(str(tmp_path / "grid.sqlite"))
        assert sentence in str(found.value)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file cannot be used: File exists"):
        Store(tmp_path / "file")


def test_a_store_is_read_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, [job("a", "empty", number=1)])
    store.close()
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(os, "access", lambda *_: False)
    reader = Store(tmp_path, read_only=True)
    assert [row.job.id for row in reader.rows()] == ["a"]
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(DataError, match="it cannot be written"):
        reader.describe(tries="1")


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "grid.sqlite") as db:
        db.execute("CREATE TABLE photo (name TEXT)")
    db.close()
    before = (tmp_path / "grid.sqlite").read_bytes()
    for read_only in (False, True):
        with pytest.raises(DataError, match="is not a grid's store but another program's"):
            Store(tmp_path, read_only=read_only)
    assert (tmp_path / "grid.sqlite").read_bytes() == before


def test_fewer_tries_fail_no_job_that_is_given_back_in_order(tmp_path: Path) -> None:
    store = filled(tmp_path, [job("a", "empty", number=1)])
    for _ in range(2):
        store.claim("me")
        store.release("me", blame="it was killed")
    store.describe(tries="1")
    store.claim("me")
    assert store.release("me") == 1
    assert store.counts()["pending"] == 1


def test_the_last_line_of_a_log_is_found(tmp_path: Path) -> None:
    log = tmp_path / "workers.log"
    assert runner_module.last_line(log, 0) == ""
    log.write_text("x\n" * 10_000 + "the cause\n\n")
    assert runner_module.last_line(log, 0) == "the cause"
    assert runner_module.last_line(log, log.stat().st_size) == ""  # it is of an earlier run


def test_a_store_that_was_killed_while_it_was_made_is_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = store_module._SCHEMA
    monkeypatch.setattr(store_module, "_SCHEMA", whole + "NO SUCH STATEMENT;")
    with pytest.raises(DataError):
        Store(tmp_path)
    monkeypatch.undo()
    with pytest.raises(DataError, match="holds no grid"):
        Store(tmp_path, read_only=True)
    with closing(Store(tmp_path)) as store:
        assert store.add([Job(id="a", task="t:f", payload={})]) == 1


def test_what_a_killed_run_recorded_is_read_wherever_its_log_is(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from closesesame.bench.queue.store import Job, Store\n"
        "Store(Path(sys.argv[1])).add([Job(id='a', task='t:f', payload={})])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "s"], check=False)
    assert (tmp_path / "s" / "grid.sqlite-wal").stat().st_size > 0
    shutil.copytree(tmp_path / "s", tmp_path / "copy", ignore=shutil.ignore_patterns("*-shm"))
    for folder in ("s", "copy"):
        with closing(Store(tmp_path / folder, read_only=True)) as store:
            assert [row.job.id for row in store.rows()] == ["a"]


def test_what_is_damaged_is_said_on_one_line(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        said = str(store.damaged("no argument 'a\nb'" + "x" * 5_000))
    assert "\n" not in said
    assert len(said) < 600
