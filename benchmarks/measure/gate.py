"""`sesame gate` on ten minutes of sound through a pipe: time a window, memory early and late, and a kill.

python -m benchmarks gate                            600 s
python -m benchmarks gate --seconds 60               less

The model is a ResNet that was not trained, behind a low-pass filter and behind the enhancer that ships, on
one thread: what it answers costs what the answers of a trained one do. The sound comes from a process of its
own, as fast as it is read.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from closesesame.bench.results import write_measured
from closesesame.core.seeding import generator
from closesesame.data import Dataset
from closesesame.models import ResNet, save_model
from closesesame.purification import Enhance, Lowpass, Purification
from closesesame.training import untrained

from . import RESULTS

RATE, EVERY_S, WORDS = 16_000, 0.5, ("low", "middle", "high")
EARLY = 0.1
"""Share of the windows after which memory is read for the first time."""
PURIFIERS: dict[str, Purification] = {"lowpass": Lowpass(), "the shipped enhancer": Enhance()}
ABOUT = (
    "Noise through a pipe from another process, as fast as it is read, on one thread; the model is a ResNet "
    "that was not trained, which costs what a trained one does. Milliseconds are the median and the 95th "
    "percentile of the windows of 1 s, one each 0.5 s; the real-time factor is the seconds of all windows "
    "over those of the sound. Memory is read after a tenth of the windows and at the end."
)


def prepare(folder: Path, purification: Purification, seconds: int) -> list[str]:
    """A model, a purifier and the sound; returns the command."""
    labels = torch.arange(6) % len(WORDS)
    noise = 0.1 * torch.randn(6, RATE, generator=generator(0, "noise"))
    data = Dataset.of(noise, labels, classes=sorted(WORDS), sample_rate=RATE)
    model = untrained(ResNet(), data, seed=0)
    save_model(model, folder / "model")
    purification.fit(None, 0, card=model.card).save(folder / "purifier")
    sound = 0.1 * np.random.default_rng(0).standard_normal(RATE * seconds)
    (folder / "sound.raw").write_bytes((sound * 2**15).astype("<i2").tobytes())
    program = str(Path(sys.executable).with_name("sesame"))
    options = ("--purifier", str(folder / "purifier"), "--every-s", str(EVERY_S), "--json")
    return [program, "gate", str(folder / "model"), *options]


def memory_mb(process: subprocess.Popen[bytes]) -> float:
    """What a process holds in memory now."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return float(line.split()[1]) / 1024


def watched(command: list[str], sound: Path, skip: int, *, stop_after: int | None = None) -> dict[str, Any]:
    """Runs the gate on the sound from a sample on.

    Args:
        command: of the gate.
        sound: raw samples.
        skip: samples before the first that is sent.
        stop_after: decisions after which the gate is killed; None to let it end.

    Returns:
        Its decisions, the seconds to the first, and memory early and late.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started, rows, early = time.perf_counter(), list[dict[str, Any]](), 0.0
    total = sound.stat().st_size // 2 - skip
    windows = round(total / RATE / EVERY_S)
    with (
        subprocess.Popen(["tail", "-c", f"+{2 * skip + 1}", str(sound)], stdout=subprocess.PIPE) as sender,
        subprocess.Popen(
            command,
            stdin=sender.stdout,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        ) as gate,
    ):
        assert gate.stdout is not None
        first = late = 0.0
        for line in gate.stdout:
            rows.append(json.loads(line))
            first = first or time.perf_counter() - started
            if len(rows) == max(1, round(EARLY * windows)):
                early = memory_mb(gate)
            if len(rows) == windows - 2:
                late = memory_mb(gate)
            if len(rows) == stop_after:
                gate.send_signal(signal.SIGKILL)
                break
        sender.terminate()
    return {"rows": rows, "first_s": first, "early_mb": early, "late_mb": late}


def measure(folder: Path, name: str, seconds: int) -> dict[str, Any]:
    """One row: an uninterrupted run, and one that is killed in the middle and started again behind it."""
    command, sound = prepare(folder, PURIFIERS[name], seconds), folder / "sound.raw"
    whole = watched(command, sound, 0)
    times = sorted(row["seconds"] for row in whole["rows"])
    half = len(times) // 2
    killed = watched(command, sound, 0, stop_after=half)
    done = round(killed["rows"][-1]["start_s"] / EVERY_S) + 1
    again = watched(command, sound, round(done * EVERY_S * RATE))
    answers = [
        (row["label"], round(row["probability"], 6), round(row["suspicion"], 6)) for row in whole["rows"]
    ]
    restarted = [
        (row["label"], round(row["probability"], 6), round(row["suspicion"], 6))
        for row in (*killed["rows"], *again["rows"])
    ]
    return {
        "purifier": name,
        "seconds_of_sound": seconds,
        "windows": len(times),
        "seconds_to_the_first": whole["first_s"],
        "ms_a_window": 1000 * statistics.median(times),
        "ms_a_window_95": 1000 * times[round(0.95 * (len(times) - 1))],
        "real_time_factor": sum(times) / seconds,
        "memory_mb_early": whole["early_mb"],
        "memory_mb_late": whole["late_mb"],
        "decisions_that_differ_after_a_kill": sum(
            one != other for one, other in zip(answers, restarted, strict=True)
        ),
    }


def main() -> None:
    """Measures, in a folder that is removed in the end, and writes the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600, help="of sound")
    seconds = parser.parse_args().seconds
    rows = []
    for name in PURIFIERS:
        scratch = Path(tempfile.mkdtemp(prefix="closesesame-"))
        try:
            rows.append(measure(scratch, name, seconds))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    write_measured(RESULTS / "gate.json", rows, ABOUT)
    print(json.dumps(rows, indent=1))
