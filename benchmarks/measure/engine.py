"""What the engine of grids must stand: kills, many cells, failures, large data; each a result file.

python -m benchmarks engine storm       kill -9 at random moments over a grid of real cells
python -m benchmarks engine overhead    10,000 empty cells
python -m benchmarks engine failures    2,000 cells of which a tenth fail
python -m benchmarks engine workers     one worker against two on the recipe `quick`
python -m benchmarks engine ray         the recipe `storm` on processes and on Ray
python -m benchmarks engine memory      100,000 one-second clips
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.runner import run
from closesesame.bench.queue.store import Job, Store
from closesesame.bench.queue.worker import Scope
from closesesame.bench.recipe import read_recipe
from closesesame.bench.results import write_measured
from closesesame.bench.stages import JUDGE, plan
from closesesame.core.errors import DataError

from . import RECIPES, RESULTS

TASKS = "benchmarks.measure.engine"
KILLS = 24


def empty(job: Job, artifacts: ArtifactStore) -> int:
    """A cell that does nothing."""
    del artifacts
    return int(job.payload["number"])


def sometimes_wrong(job: Job, artifacts: ArtifactStore) -> int:
    """A cell that fails if its number ends in 7."""
    number = empty(job, artifacts)
    if number % 10 == 7:
        raise DataError(f"cell {number} fails by design")
    return number


TABLE = {task.__name__: task for task in (empty, sometimes_wrong)}


def sesame(*words: object) -> list[str]:
    """A command line."""
    return [str(Path(sys.executable).with_name("sesame")), *map(str, words)]


def results_of(folder: Path) -> dict[str, Any]:
    """Every job's result, without what is a time."""
    store = Store(folder)
    found = {row.job.id: row.result for row in store.rows()}
    store.close()
    for result in found.values():
        if isinstance(result, dict):
            result.pop("seconds", None)
    return found


def storm(folder: Path) -> list[dict[str, Any]]:
    """Runs a grid in peace, then the same grid while workers and driver are killed."""
    recipe = RECIPES / "engine" / "storm.toml"
    subprocess.run(sesame("bench", "run", recipe, "--store", folder / "calm"), check=True)
    calm = results_of(folder / "calm")
    command = sesame("bench", "run", recipe, "--store", folder / "storm", "--tries", 100)
    rng, kills, driver = random.Random(0), Counter[str](), subprocess.Popen(command)  # noqa: S311
    while driver.poll() is None:
        time.sleep(rng.uniform(2.0, 9.0))
        workers = _children(driver.pid)
        kind = "driver" if kills.total() % 4 == 3 or not workers else "worker"
        if kills.total() < KILLS and driver.poll() is None:
            try:
                os.kill(driver.pid if kind == "driver" else rng.choice(workers), signal.SIGKILL)
            except ProcessLookupError:
                continue
            kills[kind] += 1
            if kind == "driver":
                driver.wait()
                driver = subprocess.Popen(command)
    store = Store(folder / "storm")
    completions, found = store.completions(), results_of(folder / "storm")
    cells = sum(row.job.task == JUDGE for row in store.rows())
    return [
        {
            "jobs": len(calm),
            "measured_cells": cells,
            "kills_of_workers": kills["worker"],
            "kills_of_driver": kills["driver"],
            "jobs_lost": len(calm.keys() - found.keys()) + sum(r is None for r in found.values()),
            "jobs_completed_twice": sum(count > 1 for count in completions.values()),
            "results_that_differ": sum(calm[name] != found.get(name) for name in calm),
            "failed": store.counts()["failed"],
        }
    ]


def _children(pid: int) -> list[int]:
    return _pgrep("-P", str(pid))


def _pgrep(*words: str) -> list[int]:
    listing = subprocess.run(["pgrep", *words], check=False, capture_output=True, text=True)
    return [int(line) for line in listing.stdout.split()]


def overhead(folder: Path, cells: int = 10_000) -> list[dict[str, Any]]:
    """Milliseconds a cell over the run, in tenths of it: flat if they are alike."""
    store = Store(folder)
    store.add(Job(id=f"{i:06d}", task=f"{TASKS}:empty", payload={"number": i}) for i in range(cells))
    started = time.time()
    run(folder, workers=2, scope=Scope(tasks=(TASKS,)))
    ends = sorted(row[0] for row in store._db.execute("SELECT finished FROM job"))  # noqa: SLF001
    marks = [started, *ends[cells // 10 - 1 :: cells // 10]]
    tenths = [1000 * (b - a) / (cells / 10) for a, b in pairwise(marks)]
    whole = 1000 * (time.time() - started) / cells
    return [{"cells": cells, "workers": 2, "ms_a_cell": whole, "ms_a_cell_by_tenth": tenths}]


def failures(folder: Path, cells: int = 2_000) -> list[dict[str, Any]]:
    """All others finish, and each failure is listed with its sentence."""
    store = Store(folder)
    task = f"{TASKS}:sometimes_wrong"
    store.add(Job(id=f"{i:06d}", task=task, payload={"number": i}, label=f"cell {i}") for i in range(cells))
    run(folder, workers=2, scope=Scope(tasks=(TASKS,)))
    counts = store.counts()
    listed = [row.error for row in store.rows() if row.state == "failed"]
    expected = [f"cell {i} fails by design" for i in range(7, cells, 10)]
    return [
        {
            "cells": cells,
            "done": counts["done"],
            "failed": counts["failed"],
            "as_designed": listed == expected,
        }
    ]


def workers(folder: Path) -> list[dict[str, Any]]:
    """Cells a minute of the recipe `quick` with one worker and with two, in turn."""
    recipe, rows = RECIPES / "quick.toml", []
    jobs = plan(read_recipe(recipe), Path())
    for number in (1, 2):
        place = folder / str(number)
        started = time.perf_counter()
        subprocess.run(sesame("bench", "run", recipe, "--store", place, "--workers", number), check=True)
        seconds = time.perf_counter() - started
        rows.append(
            {"workers": number, "jobs": len(jobs), "seconds": seconds, "a_minute": 60 * len(jobs) / seconds}
        )
    rows[1]["same_results"] = results_of(folder / "1") == results_of(folder / "2")
    rows[1]["times_as_many"] = rows[1]["a_minute"] / rows[0]["a_minute"]
    return rows


def ray(folder: Path) -> list[dict[str, Any]]:
    """The same grid on processes and on local Ray, one of whose workers is killed."""
    recipe = RECIPES / "engine" / "storm.toml"
    subprocess.run(sesame("bench", "run", recipe, "--store", folder / "processes"), check=True)
    driver = subprocess.Popen(sesame("bench", "run", recipe, "--store", folder / "ray", "--ray", "local"))
    killed = 0
    while driver.poll() is None:
        time.sleep(8)
        tasks = _pgrep("-f", "ray::perform_on_node")
        if tasks and killed < 3:
            os.kill(tasks[0], signal.SIGKILL)
            killed += 1
    here, there = results_of(folder / "processes"), results_of(folder / "ray")
    store = Store(folder / "ray")
    return [
        {
            "jobs": len(here),
            "workers_killed": killed,
            "results_that_differ": sum(here[name] != there.get(name) for name in here),
            "failed": store.counts()["failed"],
            "jobs_completed_twice": sum(count > 1 for count in store.completions().values()),
        }
    ]


def memory(folder: Path, clips: int = 100_000) -> list[dict[str, Any]]:
    """Peak memory of a victim, a repair and their scores over many clips, as the store has it."""
    import numpy as np
    import soundfile

    words, rng = ("low", "high"), np.random.default_rng(0)
    time_s = np.arange(16_000) / 16_000
    for number in range(clips):
        word, speaker = number % 2, number % 50
        place = folder / "data" / "many" / words[word]
        if number < 2:
            place.mkdir(parents=True)
        tone = 0.1 * np.sin(2 * np.pi * (300 + 900 * word + speaker) * time_s)
        tone += 0.01 * rng.standard_normal(16_000)
        soundfile.write(place / f"s{speaker}_nohash_{number // 100}.wav", tone, 16_000)
    recipe = RECIPES / "engine" / "memory.toml"
    command = sesame("bench", "run", recipe, "--store", folder / "s", "--data", folder / "data")
    subprocess.run([*command, "--workers", "1"], check=True)
    store = Store(folder / "s")
    return [
        {
            "clips": clips,
            "job": row.job.label,
            "peak_mb": row.peak_mb,
            "seconds": row.seconds,
            "state": row.state,
        }
        for row in store.rows()
    ]


MEASURES: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "storm": storm,
    "overhead": overhead,
    "failures": failures,
    "workers": workers,
    "ray": ray,
    "memory": memory,
}


def main() -> None:
    """Measures what was asked for, in a folder that is removed in the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("measure", choices=MEASURES)
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # workers find the tasks of this file
    scratch = Path(tempfile.mkdtemp(prefix="closesesame-"))
    try:
        found = MEASURES[given.measure](scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    write_measured(RESULTS / f"engine_{given.measure}.json", found)
    print(json.dumps(found, indent=1))
