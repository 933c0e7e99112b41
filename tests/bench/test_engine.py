"""The engine: every job once, whatever dies."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from closesesame.bench import store as store_module
from closesesame.bench.grid import run_grid
from closesesame.bench.plan import SCORE, TRIGGER, VICTIM, plan
from closesesame.bench.ray import run_on_ray
from closesesame.bench.recipe import AttackEntry, Recipe
from closesesame.bench.runner import only_driver, run
from closesesame.bench.store import Job, Outcome, Store
from closesesame.bench.workplace import Workplace
from closesesame.core.errors import DataError

TASKS = "tests.bench.tasks"


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
    store.rest_all_but(one.id for one in asked)
    assert store.counts()["pending"] == 2
    run(tmp_path, workers=1)
    assert numbers() == {"a": 1, "b": None, "c": None, "d": 4}
    store.rest_all_but(one.id for one in left)
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
        assert "the worker died 3 times" in str(rows[name].error)


def driver(folder: Path, workers: int = 2) -> "subprocess.Popen[bytes]":
    code = (
        "import sys; from pathlib import Path; from closesesame.bench.runner import run\n"
        "run(Path(sys.argv[1]), workers=int(sys.argv[2]))"
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
    hand = driver(tmp_path / "storm")
    while kills < 6:
        time.sleep(rng.uniform(0.3, 0.9))
        if hand.poll() is not None:
            break
        victims = workers_of(hand.pid)
        target = hand.pid if kills % 3 == 2 or not victims else rng.choice(victims)
        os.kill(target, signal.SIGKILL)
        kills += 1
        if target == hand.pid:
            hand.wait()
            hand = driver(tmp_path / "storm")
    hand.wait(120)
    assert kills >= 3
    assert results(tmp_path / "storm") == results(tmp_path / "calm")
    completions = Store(tmp_path / "storm").completions()
    assert completions == dict.fromkeys([j.id for j in jobs], 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_puts_everything_back_in_order(tmp_path: Path, number: signal.Signals) -> None:
    store = filled(tmp_path, [job(f"j{i}", "slow", text="x", seconds=30) for i in range(4)])
    hand = driver(tmp_path)
    until(lambda: store.counts()["leased"] == 2)
    hand.send_signal(number)
    hand.wait(20)
    assert store.counts() == {"pending": 4, "leased": 0, "done": 0, "failed": 0}
    assert all(row.tries == 0 for row in store.rows())
    assert not workers_of(hand.pid)


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
    hand = driver(tmp_path, workers=1)
    until(lambda: store.counts()["leased"] == 1)
    (worker,) = workers_of(hand.pid)
    hand.kill()
    hand.wait()
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
    place, made = Workplace(tmp_path, cache_bytes=2500), []

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
    run_on_ray(tmp_path / "there", "local", workers=2)
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
        defence=[{"name": "ft"}, {"name": "clp"}],
    )
    jobs = plan(recipe, tmp_path)
    triggers = {job.payload["seed"]: job.id for job in jobs if job.task == TRIGGER}
    assert [job.task for job in jobs][:2] == [TRIGGER] * 2 != [job.task for job in jobs][2:4]
    users = [job for job in jobs if job.task == SCORE or (job.task == VICTIM and job.payload["attack"])]
    # seeds x models x attacks x (rates x (bare, ft at two lengths, clp) + victims)
    assert len(users) == 2 * 2 * 2 * (3 * 4 + 2)
    assert all(triggers[job.payload["seed"]] in job.needs for job in users)
    louder = recipe.model_copy(update={"attack": (AttackEntry(**tone, settings={"strength": 2}),)})
    assert not set(triggers.values()) & {job.id for job in plan(louder, tmp_path)}
