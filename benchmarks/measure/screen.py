"""Screening by size of the data set: time per 1,000 clips and peak memory, and what a second run takes.

python -m benchmarks screen                          3,000, 10,000 and 30,000 one-second clips
python -m benchmarks screen --clips 300 1000         other sizes

The clips are tones with noise, the model is a small one that is given, so that no training is measured.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from closesesame.bench.results import write_measured
from closesesame.core.seeding import generator
from closesesame.data import Dataset
from closesesame.models import ResNet, save_model
from closesesame.training import untrained

from . import RESULTS

RATE, WORDS, SPEAKERS = 16_000, ("low", "middle", "high"), 50
SIZES = (3_000, 10_000, 30_000)
OPTIONS = ("--method", "training_loss", "--part", "all", "--flag", "0.01")
"""The method costs little itself, so that what the command costs shows."""
ABOUT = (
    "The method is training_loss, which trains nothing: dynamics, the default, takes several trainings on "
    "the clips, and they are not measured here."
)


def write_clips(folder: Path, count: int) -> list[Path]:
    """One-second recordings of three classes."""
    rng, seconds, files = np.random.default_rng(0), np.arange(RATE) / RATE, []
    for name in WORDS:
        (folder / name).mkdir(parents=True)
    for number in range(count):
        word, speaker = number % len(WORDS), number % SPEAKERS
        tone = 0.1 * np.sin(2 * np.pi * (300 + 500 * word + speaker) * seconds)
        tone += 0.01 * rng.standard_normal(RATE)
        files.append(folder / WORDS[word] / f"s{speaker}_nohash_{number // SPEAKERS}.wav")
        soundfile.write(files[-1], tone, RATE)
    return files


def link_some(files: list[Path], folder: Path) -> None:
    """A data set of some of the files, without a copy."""
    for file in files:
        place = folder / file.parent.name / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, place)


def write_model(folder: Path) -> None:
    """A small model that was not trained: its answers cost what those of a trained one do."""
    labels = torch.arange(6) % len(WORDS)
    noise = 0.1 * torch.randn(6, RATE, generator=generator(0, "noise"))
    data = Dataset.of(noise, labels, classes=sorted(WORDS), sample_rate=RATE)
    save_model(untrained(ResNet(widths=(8, 16)), data, seed=0), folder)


def timed(*words: object) -> tuple[float, float, dict[str, Any]]:
    """Runs a command: seconds, peak memory of its process in MB, and its answer."""
    program = [str(Path(sys.executable).with_name("sesame")), *map(str, words), "--json"]
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile() as out,
        subprocess.Popen(program, stdout=out, stderr=subprocess.DEVNULL) as run,
    ):
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        if run.returncode:
            raise subprocess.CalledProcessError(run.returncode, program)
        out.seek(0)
        return seconds, usage.ru_maxrss / 1024, json.load(out)


def measure(scratch: Path, sizes: list[int]) -> list[dict[str, Any]]:
    """One row a size; ratios are to the first."""
    files = write_clips(scratch / "all", max(sizes))
    write_model(scratch / "model")
    rows: list[dict[str, Any]] = []
    for size in sizes:
        data, out = scratch / f"{size}", scratch / f"{size}-screened"
        link_some(files[:size], data)
        words = ("screen", data, out, *OPTIONS, "--model", scratch / "model")
        seconds, peak_mb, found = timed(*words)
        again, _, _ = timed(*words, "--force")
        rows.append(
            {
                "clips": size,
                "seconds": seconds,
                "seconds_per_1000": 1000 * seconds / size,
                "seconds_scoring": found["seconds"],
                "seconds_again": again,
                "peak_mb": peak_mb,
                "page_mb": (out / "screening.html").stat().st_size / 1e6,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    for row in rows:
        row["times_as_long_per_clip"] = row["seconds_per_1000"] / rows[0]["seconds_per_1000"]
        row["times_as_much_memory"] = row["peak_mb"] / rows[0]["peak_mb"]
    return rows


def main() -> None:
    """Measures, in a folder that is removed in the end, and writes the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", nargs="+", type=int, default=SIZES, help="sizes of the data sets")
    sizes = sorted(parser.parse_args().clips)
    scratch = Path(tempfile.mkdtemp(prefix="closesesame-"))
    try:
        rows = measure(scratch, sizes)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    write_measured(RESULTS / "screen.json", rows, ABOUT)
    print(json.dumps(rows, indent=1))
