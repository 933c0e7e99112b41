"""Kills, full disks, read-only folders and too little memory, put into real commands: nothing may be lost.

python -m benchmarks faults            all; about 20 minutes, and a C compiler is needed; killed, it goes on
python -m benchmarks faults --few 2    the same with two of each

A library that is loaded before all others (faults.c) counts the calls that change a file below one folder,
and kills the process at the n-th, half-way through if it is a write, or lets it and all later ones fail. What
was there before is compared with what the command left: it must be the old output whole or the new one whole,
or, where the command could still speak, the new one whole in the place that its message names.
"""

import argparse
import ctypes
import errno
import hashlib
import importlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import soundfile
import torch
from rich.progress import track

import closesesame.cli as program
from closesesame import data, training
from closesesame.bench import stages as planning
from closesesame.bench.grid import open_store, read_grid
from closesesame.bench.identity import Code
from closesesame.bench.queue import runner, worker
from closesesame.bench.queue.store import FILE
from closesesame.bench.results import write_measured
from closesesame.cli.verbs import report
from closesesame.core.disk import Destination, write_whole
from closesesame.core.errors import ClosesesameError
from closesesame.report import from_models
from closesesame.report.pages import comparison

from . import RESULTS

HERE = Path(__file__).parent
OUT = RESULTS / "faults.json"
LIBRARY = "CLOSESESAME_FAULTS"
RATE, SECONDS = 8_000, 0.25
PATIENCE_S = 120
SHARED = (from_models, comparison)
"""Imported once, before processes are forked."""
ONE_SENTENCE = re.compile(r"^sesame: [^\n]{10,990}\n\Z")
KEPT = re.compile(r"what was computed is kept in (.+), move it from there")
RECIPE = f"""
name = "faults"
rates = [0.0, 0.25]
clean_fractions = [0.5]
training = {{ epochs = 1, batch_size = 4 }}
protocol = {{ clean_from = "train", budgets = ["published"] }}
data = [{{ name = "clips", sample_rate = {RATE}, duration_s = {SECONDS}, split = "lists" }}]
model = [{{ name = "resnet", settings = {{ widths = [2] }} }}]
attack = [{{ name = "badnets" }}]
removal = [{{ name = "ft", settings = {{ steps = 2, batch_size = 4 }} }}]
"""


class Shim:
    """The library of faults.c, if it is loaded."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(None)
        self.there = hasattr(self.library, "faults_arm")

    def arm(self, at: int, error: int, folder: Path) -> None:
        """From the `at`-th change below a folder on calls fail; with error 0 the process is killed there."""
        self.library.faults_arm(ctypes.c_long(at), error, os.fsencode(f"{folder}/"))

    def disarm(self) -> None:
        """Lets everything pass."""
        self.library.faults_disarm()

    def calls(self) -> int:
        """How many changes there were since `arm`."""
        return int(self.library.faults_calls())


SHIM = Shim()


def build_library(folder: Path) -> Path | None:
    """Compiles faults.c; None without a C compiler."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    library = folder / "faults.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "faults.c"), "-ldl"]
    return library if subprocess.run(command, check=False, capture_output=True).returncode == 0 else None


@dataclass(frozen=True)
class Command:
    """A command that writes `out`, and how the output is known by what it holds."""

    name: str
    words: tuple[str, ...]
    """With `OUT` for the output."""
    old: tuple[str, ...] = ()
    """More words, with which an earlier run made what is there; a text is there if empty."""
    kind: str = "folder"

    def line(self, out: Path, *, old: bool = False) -> tuple[str, ...]:
        """The command line."""
        words = [str(out) if word == "OUT" else word for word in (*self.words, *(self.old if old else ()))]
        return (*words, "--force")


def commands(world: Path) -> list[Command]:
    """All commands that write; what they read lies in the world."""
    clips, suspect, trigger = (
        str(world / "clips"),
        str(world / "suspect"),
        str(world / "poisoned" / "_trigger"),
    )
    small = ("--set", "widths=[2,4]", "--set", "epochs=1", "--set", "batch_size=4")
    reading = ("--sample-rate", str(RATE), "--duration-s", str(SECONDS))
    tuned = ("--method", "ft", "--set", "steps=2", "--set", "batch_size=4", "--split", "lists")
    page_of = ("report", clips, "OUT", "--before", suspect, "--trigger", trigger, "--split", "lists")
    again = ("--seed", "1")
    return [
        Command("train", ("train", clips, "OUT", *small, *reading, "--split", "lists"), again),
        Command("remove", ("remove", suspect, "OUT", "--clean", clips, *tuned), again),
        Command("poison", ("poison", clips, "OUT", "--set", "rate=0.3", *reading, "--split", "lists"), again),
        Command("data --out", ("data", clips, "--out", "OUT", *reading, "--split", "random"), again),
        Command("report", page_of, kind="file"),
        Command("bench export", ("bench", "export", "OUT", "--store", str(world / "store")), kind="file"),
    ]


# --- one run in a process of its own --------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    status: int
    """Exit status, or minus the signal."""
    said: str
    """What it wrote on standard error, without notes."""
    began: str
    """`r` if it read recordings, `t` if it trained, `w` if it came to write its output."""
    calls: int


def perform(words: Sequence[str], scratch: Path, prepare: Callable[[], object] = lambda: None) -> Ended:
    """Runs a command in a fork, as `sesame` would, after `prepare`."""
    told = {name: scratch / f"told-{name}" for name in ("out", "err", "began", "calls", "modules")}
    for file in told.values():
        file.write_bytes(b"")
    child = os.fork()
    if not child:
        try:
            _in_the_child(words, told, prepare)
        finally:
            os._exit(99)
    status = _ended(child)
    lines = told["err"].read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    said = "".join(line for line in lines if not line.startswith("note: "))
    calls = told["calls"].read_text(encoding="utf-8")
    for name in told["modules"].read_text(encoding="utf-8").split():
        with suppress(Exception):  # so that the next fork has it already
            importlib.import_module(name)
    return Ended(status, said, told["began"].read_text(encoding="utf-8"), int(calls or 0))


def _ended(child: int) -> int:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -999


def _in_the_child(words: Sequence[str], told: dict[str, Path], prepare: Callable[[], object]) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(told[name], os.O_WRONLY | os.O_APPEND), number)
    sys.argv = ["sesame", *words]
    began = os.open(told["began"], os.O_WRONLY | os.O_APPEND)
    _mark(data, "read_splits", began, b"r")
    _mark(training, "fit", began, b"t")
    _mark(Destination, "write", began, b"w")
    code, known = 0, {*sys.modules}
    prepare()
    try:
        program.run()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    SHIM.disarm()
    told["calls"].write_text(str(SHIM.calls()), encoding="utf-8")
    told["modules"].write_text("\n".join({*sys.modules} - known), encoding="utf-8")
    os._exit(code)


def _mark(holder: Any, name: str, file: int, mark: bytes) -> None:
    """Lets a function say that it was called."""
    real = getattr(holder, name)

    def marked(*given: Any, **named: Any) -> Any:
        os.write(file, mark)
        return real(*given, **named)

    setattr(holder, name, marked)


# --- what is there before and after ---------------------------------------------------------------------


def print_of(path: Path) -> str | None:
    """What a file or folder holds, without dates and times; None if it cannot be read as what it is."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if not path.is_dir():
        return None
    parts = []
    for file in sorted(path.rglob("*")):
        if file.is_file():
            content = file.read_bytes()
            if file.name == "config.json":
                try:
                    content = json.dumps(json.loads(content) | {"made": None}).encode()
                except ValueError:
                    return None
            parts.append(f"{file.relative_to(path)} {hashlib.sha256(content).hexdigest()}")
    return "\n".join(parts)


@dataclass
class Tally:
    """What became of the injections of one fault into one command."""

    command: str
    fault: str
    ends: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """As a row of a result file."""
        names = (
            "refused before the work",
            "old whole",
            "new whole",
            "kept elsewhere",
            "resumed to the same rows",
        )
        counts = {name: self.ends[name] for name in names}
        total = {"command": self.command, "fault": self.fault, "injections": self.ends.total()}
        return total | counts | {"lost": self.ends["lost"], "not one sentence": len(self.odd)}


Work = tuple[str, str, Callable[[Tally], None]]
"""A command, a fault, and what puts it in."""
GRID = "bench run"


class Bench:
    """A scratch folder with a world to read, and a place to write that faults strike."""

    def __init__(self, scratch: Path, wanted: Sequence[str]) -> None:
        self.scratch, self.world, self.wanted = scratch, scratch / "world", wanted
        self.work, self.elsewhere = scratch / "work", scratch / "elsewhere"
        self.out = self.work / "out"
        self.elsewhere.mkdir(parents=True)
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.elsewhere)
        self._make_world()

    def _make_world(self) -> None:
        rng, lists = np.random.default_rng(0), dict[str, list[str]](testing=[], validation=[])
        for number in range(24):
            word, take = ("low", "high")[number % 2], number // 2
            name = f"{word}/s{take % 4}_nohash_{take // 4}.wav"
            pitch = (300, 1_500)[number % 2] * np.arange(int(RATE * SECONDS)) / RATE
            (self.world / "clips" / word).mkdir(parents=True, exist_ok=True)
            sound = 0.3 * np.sin(6.2832 * pitch) + 0.01 * rng.standard_normal(len(pitch))
            soundfile.write(self.world / "clips" / name, sound, RATE)
            if take >= 8:
                lists["testing" if take % 2 else "validation"].append(name)
        for part, names in lists.items():
            text = "".join(f"{name}\n" for name in names)
            (self.world / "clips" / f"{part}_list.txt").write_text(text, encoding="utf-8")
        (self.world / "recipe.toml").write_text(RECIPE, encoding="utf-8")
        train, _, poison, *_ = commands(self.world)
        needed = {
            train.line(self.world / "suspect"): {"remove", "report"},
            poison.line(self.world / "poisoned"): {"report"},
            self.grid(self.world / "store"): {"bench export", GRID},
        }
        for words, users in needed.items():
            ended = perform(words, self.scratch, forked_workers) if users & {*self.wanted} else None
            if ended and ended.status:
                raise RuntimeError(f"{words} ended with {ended.status}: {ended.said}")

    def grid(self, store: Path, *more: str) -> tuple[str, ...]:
        """The command line that runs the grid."""
        words = ("bench", "run", str(self.world / "recipe.toml"), "--data", str(self.world))
        return (*words, "--store", str(store), *more)

    def fresh(self) -> None:
        """Empties the place to write."""
        for folder in (self.work, self.elsewhere):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()


# --- commands that write one output ---------------------------------------------------------------------


class Trial:
    """A command with its old output, its new one, and a count of the calls that write it."""

    def __init__(self, bench: Bench, command: Command) -> None:
        self.bench, self.command = bench, command
        bench.fresh()
        self.old_place = bench.scratch / f"old-{command.name.replace(' ', '-')}"
        if command.old:
            self._perform(old=True)
            bench.out.rename(self.old_place)
        else:
            self.old_place.write_text("what an earlier run made\n", encoding="utf-8")
        self._put_old()
        self.calls = self._perform(lambda: SHIM.arm(0, 0, bench.work)).calls
        self.old, self.new = print_of(self.old_place), print_of(bench.out)
        if self.new is None or self.new == self.old:
            raise RuntimeError(f"{command.name} writes the same with another seed")

    def _put_old(self) -> None:
        self.bench.fresh()
        if self.old_place.is_dir():
            shutil.copytree(self.old_place, self.bench.out)
        else:
            shutil.copy(self.old_place, self.bench.out)

    def _perform(self, prepare: Callable[[], object] = lambda: None, *, old: bool = False) -> Ended:
        return perform(self.command.line(self.bench.out, old=old), self.bench.scratch, prepare)

    def strike(self, fault: str, at: int, tally: Tally) -> None:
        """Puts in one fault and says what became of old and new."""
        self._put_old()
        ended = self._perform(FAULTS[fault](at, self.bench.work))
        self._judge(ended, fault, at, tally)

    def read_only(self, tally: Tally) -> None:
        """Has the command write where nothing can be written."""
        with mounted(self.bench.work) as mount:
            self._put_old_in(mount)
            ended = self._perform()
            if ended.began:
                tally.odd.append(f"it began ({ended.began}) although nothing could be written")
            self._judge(ended, "read-only folder", 0, tally)

    def _put_old_in(self, mount: Callable[[str], None]) -> None:
        mount("rw")
        if self.old_place.is_dir():
            shutil.copytree(self.old_place, self.bench.out, dirs_exist_ok=True)
        else:
            shutil.copy(self.old_place, self.bench.out)
        mount("ro")

    def _judge(self, ended: Ended, fault: str, at: int, tally: Tally) -> None:
        what = f"{self.command.name}, {fault}, {at}"
        found = print_of(self.bench.out)
        if ended.status not in {0, 2, -signal.SIGKILL} or (
            ended.status == 2 and not ONE_SENTENCE.match(ended.said)
        ):
            tally.odd.append(f"{what}: ended with {ended.status}: {ended.said[-600:]!r}")
        if found == self.new:
            end = "new whole"
        elif found != self.old:
            end = "lost"
        elif ended.status == -signal.SIGKILL:
            end = "old whole"
        elif kept := KEPT.search(ended.said):
            end = "kept elsewhere" if print_of(Path(kept[1])) == self.new else "lost"
        elif ended.status == 0 or "w" in ended.began:
            end = "lost"
        else:
            end = "old whole" if ended.began else "refused before the work"
        if end == "lost":
            tally.odd.append(f"{what}: lost; {ended}")
        tally.ends[end] += 1
        if fault != "read-only folder":
            self._look_for_litter(what, tally)

    def _look_for_litter(self, what: str, tally: Tally) -> None:
        """The next run removes what a killed one left."""
        kind: Any = self.command.kind
        Destination(self.bench.out, kind=kind, force=True)
        left = [path.name for path in self.bench.work.iterdir() if path != self.bench.out]
        if left:
            tally.odd.append(f"{what}: {left[:3]} stays beside the output")


def _kill(at: int, folder: Path) -> Callable[[], object]:
    return lambda: SHIM.arm(at, 0, folder)


def _full(at: int, folder: Path) -> Callable[[], object]:
    return lambda: SHIM.arm(at, errno.ENOSPC, folder)


def _memory(at: int, folder: Path) -> Callable[[], object]:
    """Leaves some MB beside what the process has when it begins."""
    del folder

    def limit() -> None:
        pages_there = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages_there * resource.getpagesize() + at * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        SHIM.arm(0, 0, Path("/nowhere"))

    return limit


FAULTS = {"kill -9": _kill, "full disk": _full, "memory limit": _memory}


@contextmanager
def mounted(folder: Path) -> Iterator[Callable[[str], None]]:
    """A file system in memory at a folder; what is given mounts it again, `rw` or `ro`.

    Raises:
        PermissionError: if this user may not mount.
    """
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        raise PermissionError
    try:
        yield partial(_remount, folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def spread(count: int, most: int | None) -> list[int]:
    """The numbers from 1 to `count`, or `most` of them, evenly."""
    if most is None or count <= most:
        return list(range(1, count + 1))
    return sorted({1 + round(number * (count - 1) / max(1, most - 1)) for number in range(most)})


def output_work(bench: Bench, command: Command, most: int | None) -> Iterator[Work]:
    """All faults in a command that writes one output."""
    trial = cache(lambda: Trial(bench, command))

    def strike(fault: str, tally: Tally) -> None:
        count = 240 if fault == "memory limit" else trial().calls
        few = 24 if fault == "memory limit" and most is None else most
        for at in track(spread(count, few), f"{command.name}, {fault}"):
            trial().strike(fault, at, tally)

    for fault in FAULTS:
        yield command.name, fault, partial(strike, fault)
    yield command.name, "read-only folder", lambda tally: trial().read_only(tally)


# --- grids ----------------------------------------------------------------------------------------------


IDLE: list[tuple[int, int]] = []
"""Workers that wait to be hired: process and pipe. They are forked before the driver opens its store."""


class Hand:
    """A worker, forked instead of started, since that is forty times faster."""

    def __init__(self, words: Sequence[str], *, stdout: Any, **_: Any) -> None:
        self.returncode: int | None = None
        self.pid, pipe = IDLE.pop(0)
        os.write(pipe, json.dumps({"words": words[4:], "log": stdout.name}).encode())
        os.close(pipe)

    def poll(self) -> int | None:
        """As of a subprocess."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """As of a subprocess."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(0.01)
        return self.returncode or 0

    def send_signal(self, number: int) -> None:
        """As of a subprocess."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """As of a subprocess."""
        self.send_signal(signal.SIGKILL)


def forked_workers(prepare: Callable[[int], object] = lambda _: None, most: int = 8) -> None:
    """Has this process, a driver, hire forked workers; `prepare` is called in the n-th before it begins."""
    IDLE.clear()
    for number in range(1, most + 1):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(writing)
            for _, pipe in IDLE:
                os.close(pipe)
            _wait_and_work(reading, lambda number=number: prepare(number))  # type: ignore[misc]
        os.close(reading)
        IDLE.append((pid, writing))
    names = {"Popen": Hand, "DEVNULL": subprocess.DEVNULL, "TimeoutExpired": subprocess.TimeoutExpired}
    patch.object(runner, "subprocess", SimpleNamespace(**names)).start()
    runner.POLL_S = 0.02


def _wait_and_work(pipe: int, prepare: Callable[[], object]) -> None:
    """Ends if the driver does; works once it is told what."""
    code = 1
    try:
        told = os.read(pipe, 65_536)
        if not told:
            os._exit(0)
        asked = json.loads(told)
        log = os.open(asked["log"], os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        worker.IDLE_S, worker.LOOK_S = 0.02, 0.05
        prepare()
        worker._start(asked["words"])  # noqa: SLF001
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stderr.flush()
        os._exit(code)


class GridTrial:
    """The grid, run in peace once; then with faults and resumed, which must give the same rows."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.store = bench, bench.work / "store"
        self.rows = self._rows(bench.world / "store")
        bench.fresh()
        self.driver_calls = self._run(partial(self._arm_driver, 0, 0)).calls
        self.worker_calls = self._count_worker()

    def _arm_driver(self, at: int, error: int) -> None:
        forked_workers()
        SHIM.arm(at, error, self.bench.work)

    def _run(self, prepare: Callable[[], object], *more: str) -> Ended:
        return perform(self.bench.grid(self.store, *more), self.bench.scratch, prepare)

    def _rows(self, store: Path) -> list[dict[str, Any]]:
        return [
            {k: v for k, v in row.items() if k not in {"seconds", "peak_mb"}} for row in read_grid(store)[1]
        ]

    def _count_worker(self) -> int:
        """The changes that one worker makes who does the whole grid."""
        self.bench.fresh()
        told = self.bench.elsewhere / "calls"

        def count(number: int) -> None:
            if number == 1:
                SHIM.arm(0, 0, self.bench.work)
                real = worker.perform

                def counted(*given: Any) -> Any:
                    outcome = real(*given)
                    told.write_text(str(SHIM.calls()), encoding="utf-8")
                    return outcome

                patch.object(worker, "perform", counted).start()

        self._run(lambda: forked_workers(count), "--workers", "1")
        return int(told.read_text(encoding="utf-8"))

    def strike(self, whom: str, error: int, at: int, tally: Tally) -> None:
        """Strikes the driver or the first worker, then runs the grid again."""
        self.bench.fresh()
        if whom == "driver":
            ended = self._run(partial(self._arm_driver, at, error))
        else:

            def arm(number: int) -> None:
                if number == 1:
                    SHIM.arm(at, error, self.bench.work)

            ended = self._run(lambda: forked_workers(arm))
        what = f"bench run, {whom}, {errno.errorcode.get(error, 'kill')}, {at}"
        if ended.status not in {0, 1, 2, -signal.SIGKILL} or (
            ended.status > 0 and not ONE_SENTENCE.match(ended.said)
        ):
            tally.odd.append(f"{what}: ended with {ended.status}: {ended.said[-600:]!r}")
        self._wait_for_workers()
        before = self._done()
        again = self._run(forked_workers, "--retry")
        wrong = self._wrong(before, again)
        if wrong:
            tally.odd.append(f"{what}: {wrong}; {ended}")
        tally.ends["lost" if wrong else "resumed to the same rows"] += 1

    def _wait_for_workers(self) -> None:
        """Workers whose driver was killed end by themselves."""
        time.sleep(0.15)

    def _done(self) -> dict[str, Any]:
        """The jobs that are done, and what they gave."""
        if not (self.store / FILE).is_file() or not (self.store / FILE).stat().st_size:
            return {}
        try:
            with closing(open_store(self.store)) as store:
                return {row.job.id: row.result for row in store.rows() if row.state == "done"}
        except ClosesesameError as error:
            return {} if "holds no grid" in str(error) else {"unreadable": str(error)}

    def _wrong(self, before: dict[str, Any], again: Ended) -> str:
        """What is wrong after the second run; nothing if all is well."""
        if again.status:
            return f"the second run ended with {again.status}: {again.said[-300:]!r}"
        if self._rows(self.store) != self.rows:
            return "rows differ from those of a run in peace"
        with closing(open_store(self.store)) as store:
            results = {row.job.id: row.result for row in store.rows()}
            twice = [job for job, count in store.completions().items() if count != 1]
        if twice:
            return f"{len(twice)} jobs were done twice"
        lost = [job for job, result in before.items() if results.get(job) != result]
        return (
            f"{len(lost)} jobs that were done are not what they were: {before.get('unreadable', '')}"
            if lost
            else ""
        )


def grid_work(bench: Bench, most: int | None) -> Iterator[Work]:
    """Kills and full disks at writes of driver and worker."""
    trial = cache(lambda: GridTrial(bench))

    def strike(whom: str, fault: str, tally: Tally) -> None:
        calls = trial().driver_calls if whom == "driver" else trial().worker_calls
        for at in track(spread(calls, most or 100), f"{GRID}, {whom}, {fault}"):
            trial().strike(whom, 0 if fault == "kill -9" else errno.ENOSPC, at, tally)

    for whom in ("driver", "worker"):
        for fault in ("kill -9", "full disk"):
            yield f"{GRID}, {whom}", fault, partial(strike, whom, fault)


# --- the run --------------------------------------------------------------------------------------------


def run(wanted: Sequence[str], most: int | None, kept: Path) -> list[Tally]:
    """Puts in all faults, or `most` of each kind, into commands; what is done is kept in a file."""
    torch.set_num_threads(1)
    shared = Code()
    patch.object(planning, "Code", lambda: shared).start()
    patch.object(report, "now", lambda: "then").start()
    known: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else []
    tallies = [Tally(**(one | {"ends": Counter(one["ends"])})) for one in known]
    scratch = Path(tempfile.mkdtemp(prefix="closesesame-faults-"))
    try:
        bench = Bench(scratch, wanted)
        for name, fault, strike in _work(bench, wanted, most):
            if (name, fault) in {(tally.command, tally.fault) for tally in tallies}:
                continue
            tally = Tally(name, fault)
            with suppress(PermissionError):  # to mount
                strike(tally)
                tallies.append(tally)
            write_whole(json.dumps([vars(tally) for tally in tallies]), kept)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return tallies


def _work(bench: Bench, wanted: Sequence[str], most: int | None) -> Iterator[Work]:
    for command in commands(bench.world):
        if command.name in wanted:
            yield from output_work(bench, command, most)
    if GRID in wanted:
        yield from grid_work(bench, most)


def main() -> int:
    """Runs what was asked for; 1 if anything was lost, or was not told in one sentence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    names = [*(command.name for command in commands(Path())), GRID]
    parser.add_argument("--few", type=int, help="so many of each fault, and no result file")
    parser.add_argument("--command", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    if not SHIM.there:
        return _again_with_library()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) if asked.few or asked.command else asked.out.parent
        kept = place / f".{asked.out.name}.partial"
        tallies = run(asked.command or names, asked.few, kept)
        kept.unlink()
    rows = [tally.row() for tally in tallies]
    for tally in tallies:
        print(json.dumps(tally.row()))
        print(*tally.odd[:20], sep="\n")
    if not asked.few and not asked.command:
        write_measured(asked.out, rows, ABOUT)
    return int(any(tally.odd or tally.ends["lost"] for tally in tallies))


ABOUT = (
    "A kill is SIGKILL at the n-th call that changes a file, half-way through if it writes; on a full disk "
    "that call and all later ones fail; under a memory limit 1 to 240 MB are left. After a kill the old "
    "output or the new one must be whole; after an error that comes with the output, the new one, if need be "
    "elsewhere. A grid is run again and must give the rows of an undisturbed run, without a job that is done "
    "twice."
)


def _again_with_library() -> int:
    """Runs all this once more with faults.c loaded."""
    with tempfile.TemporaryDirectory() as folder:
        library = build_library(Path(folder))
        if library is None:
            print("a C compiler is needed to build faults.c", file=sys.stderr)
            return 77
        environment = os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-m", "benchmarks", "faults", *sys.argv[1:]], env=environment, check=False
        ).returncode
