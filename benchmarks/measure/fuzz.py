"""Hostile input by the hundred thousand: works, or is refused in one sentence; nothing else.

python -m benchmarks fuzz --cases 100000 --seed 0            a long run; killed, it goes on where it was
python -m benchmarks fuzz --only 4711                        one case again, with its traceback

A case is a data folder, a recipe, a trigger, a model, settings, a store or a result file with something wrong
in it, read by the functions that the commands call. Or it is a comparison: the same model, trigger and
recordings in another order, place, format or sample rate, which must give the same figures.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import torch
from rich.progress import Progress

from closesesame.bench import stages as planning
from closesesame.bench.queue.store import FILE
from closesesame.bench.queue.worker import forget_peak, peak_mb
from closesesame.bench.results import write_measured
from closesesame.core.disk import write_whole
from closesesame.core.errors import ClosesesameError, DataWarning

from . import RESULTS
from .cases import KINDS, Act, World, check_sentence, hold

OUT = RESULTS / "fuzz.json"
MOST_CPU_S, MOST_MB = 10, 1_000
"""What one case may take, beside what the process has anyhow."""
CHUNK = 250
"""Cases of one process: what kills a process costs that many at most."""
STORE_FILES = {FILE, f"{FILE}-wal", f"{FILE}-shm"}


class TooSlowError(BaseException):
    """A case took more time than it may."""


@dataclass
class Tally:
    """What became of the cases of one kind."""

    works: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)
    slowest_ms: float = 0.0
    largest_mb: float = 0.0

    @property
    def cases(self) -> int:
        """How many there were."""
        return self.works + self.refused.total() + len(self.faults)

    def add(self, other: "Tally") -> None:
        """Counts another tally in."""
        self.works += other.works
        self.refused.update(other.refused)
        self.faults += other.faults
        self.slowest_ms = max(self.slowest_ms, other.slowest_ms)
        self.largest_mb = max(self.largest_mb, other.largest_mb)

    def row(self, kind: str) -> dict[str, Any]:
        """As a row of a result file."""
        return {
            "input": kind,
            "cases": self.cases,
            "worked": self.works,
            "refused in one sentence": self.refused.total(),
            "faults": len(self.faults),
            "slowest_ms": self.slowest_ms,
            "most memory_MB": self.largest_mb,
        }


def try_case(number: int, seed: int, scratch: Path, world: World, tallies: dict[str, Tally]) -> None:
    """Tries one case; whatever is neither work nor one sentence is a fault."""
    rng = random.Random(f"{seed}/{number}")  # noqa: S311
    kind = rng.choices(list(KINDS), [share for _, share in KINDS.values()])[0]
    place = scratch / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    tally = tallies.setdefault(kind, Tally())
    act = KINDS[kind][0](rng, place, world)
    before, started = _listing(place), _cpu_ms()
    forget_peak()
    memory = peak_mb()
    try:
        outcome = _outcome(act)
        left = {*_listing(place).items()} ^ {*before.items()}
        names = {name for name, _ in left if Path(name).name not in STORE_FILES}
        allowed = {"out"} if outcome == "works" else set()
        strange = sorted(name for name in names if name.split("/")[0] not in allowed)
        hold(not strange, f"files were left or changed: {strange[:3]}")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        tally.faults.append({"case": number, "seed": seed, "input": kind} | _told(error))
        return
    spent, used = _cpu_ms() - started, max(0.0, peak_mb() - memory)
    tally.slowest_ms, tally.largest_mb = max(tally.slowest_ms, spent), max(tally.largest_mb, used)
    if used > MOST_MB:
        tally.faults.append({"case": number, "seed": seed, "input": kind, "what": f"took {used:.0f} MB"})
    elif outcome == "works":
        tally.works += 1
    else:
        tally.refused[outcome] += 1


def _outcome(act: Act) -> str:
    signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, MOST_CPU_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", DataWarning)
            act()
    except ClosesesameError as error:
        check_sentence(str(error))
        return type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "works"


def _too_slow(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise TooSlowError(f"took more than {MOST_CPU_S} s")


def _told(error: BaseException) -> dict[str, str]:
    """What went wrong, and the last line of ours that had to do with it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/closesesame/" in frame.filename] or list(frames)
    where = f"{ours[-1].filename.rpartition('/closesesame/')[2]}:{ours[-1].lineno}"
    return {"what": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", "where": where}


def _listing(place: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in place.rglob("*"):
        about = path.lstat()
        found[path.relative_to(place).as_posix()] = (
            about.st_size if path.is_file() else 0,
            about.st_mtime_ns if path.is_file() else 0,
        )
    return found


def _cpu_ms() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return 1000 * (used.ru_utime + used.ru_stime)


def try_cases(numbers: range, seed: int, scratch: Path, world: World) -> dict[str, Tally]:
    """Tries cases one after the other, in this process; what they write lies under `scratch`."""
    tallies: dict[str, Tally] = {}
    with (
        patch.object(planning, "Code", lambda: world.code),
        patch.object(tempfile, "tempdir", str(scratch / "case")),
    ):
        for number in numbers:
            try_case(number, seed, scratch, world, tallies)
    shutil.rmtree(scratch / "case", ignore_errors=True)
    return tallies


def _in_a_fork(numbers: range, seed: int, scratch: Path, world: World) -> dict[str, Tally]:
    """As `try_cases`, in a process of its own, so that one that dies takes no other cases along."""
    told = scratch / "told.json"
    told.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, 16 * 2**30))
            found = try_cases(numbers, seed, scratch, world)
            told.write_text(
                json.dumps({kind: vars(tally) for kind, tally in found.items()}), encoding="utf-8"
            )
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if told.is_file():
        return {kind: _tally(known) for kind, known in json.loads(told.read_text(encoding="utf-8")).items()}
    if len(numbers) > 1:
        half = len(numbers) // 2
        found = _in_a_fork(numbers[:half], seed, scratch, world)
        for kind, tally in _in_a_fork(numbers[half:], seed, scratch, world).items():
            found.setdefault(kind, Tally()).add(tally)
        return found
    died = {"case": numbers[0], "seed": seed, "what": f"the process ended with {status}"}
    return {"processes": Tally(faults=[died])}


def _tally(known: dict[str, Any]) -> Tally:
    return Tally(**(known | {"refused": Counter(known["refused"])}))


def run(cases: int, seed: int, out: Path) -> dict[str, Tally]:
    """Tries all cases; what was tried is kept beside `out`, and a run that was killed goes on there."""
    partial_file = out.with_name(f".{out.name}-{seed}.partial")
    done, tallies = 0, dict[str, Tally]()
    if partial_file.is_file():
        known = json.loads(partial_file.read_text(encoding="utf-8"))
        done, tallies = known["done"], {kind: _tally(tally) for kind, tally in known["tallies"].items()}
    memory = Path("/dev/shm")  # noqa: S108
    scratch = Path(tempfile.mkdtemp(prefix="closesesame-fuzz-", dir=memory if memory.is_dir() else None))
    try:
        world = World.make(scratch / "world")
        with Progress() as bar:
            task = bar.add_task("cases", total=cases, completed=done)
            while done < cases:
                numbers = range(done, min(cases, done + CHUNK))
                for kind, tally in _in_a_fork(numbers, seed, scratch, world).items():
                    tallies.setdefault(kind, Tally()).add(tally)
                done = numbers.stop
                faults = sum(len(tally.faults) for tally in tallies.values())
                bar.update(task, completed=done, description=f"cases, {faults} faults")
                content = {"done": done, "tallies": {kind: vars(tally) for kind, tally in tallies.items()}}
                write_whole(json.dumps(content), partial_file)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    rows = [tallies[kind].row(kind) for kind in (*KINDS, "processes") if kind in tallies]
    about = f"Seed {seed}; comparisons at twice the sample rate may differ by one clip, all others by none."
    write_measured(out, rows, about)
    partial_file.unlink()
    return tallies


def main() -> int:
    """Runs what was asked for; 1 if there were faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", type=int)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.only is not None:
        return _again(asked.only, asked.seed)
    tallies = run(asked.cases, asked.seed, asked.out)
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    for fault in faults[:100]:
        print(json.dumps(fault))
    print(json.dumps({kind: dict(tally.refused) | {"works": tally.works} for kind, tally in tallies.items()}))
    return bool(faults)


def _again(number: int, seed: int) -> int:
    scratch = Path(tempfile.mkdtemp(prefix="closesesame-fuzz-"))
    world = World.make(scratch / "world")
    with patch(f"{__name__}._told", _shown):
        found = try_cases(range(number, number + 1), seed, scratch, world)
    print({kind: vars(tally) for kind, tally in found.items()})
    shutil.rmtree(scratch)
    return 0


def _shown(error: BaseException, told: Callable[[BaseException], dict[str, str]] = _told) -> dict[str, str]:
    traceback.print_exception(error)
    return told(error)
