"""The small enhancer that ships with the package: trains it, and measures it beside others.

python -m benchmarks enhancer DATA SCRATCH                  train, in the folder SCRATCH, and measure
python -m benchmarks enhancer DATA SCRATCH --ship           and put it into the package
python -m benchmarks enhancer DATA SCRATCH --steps 0        measure what ships, and published weights

It learns from the training speakers of keywords10 (MIT) and from speech_commands_300 (CC BY 4.0), mixed with
esc10 without its last fold (CC BY 3.0), the background noise of Speech Commands (CC BY 4.0) and noise made
here. Trigger sounds of the benchmarks are of other classes, and none of them is heard. A training that was
stopped goes on where it was. It is measured on the test speakers of keywords10, with sounds that it never
heard: the last fold of esc10, and each class of trigger sounds. Other enhancers, such as the published
weights of GTCRN, are measured on the same mixtures if they are named with --beside.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from closesesame.audio.effects import looped, rms
from closesesame.audio.files import read
from closesesame.bench.results import write_measured
from closesesame.core.seeding import generator
from closesesame.data import Dataset, load_folder, load_splits
from closesesame.enhancement import ENHANCEMENTS, EnhancerTraining, MaskGRU, Mixture, train_enhancer
from closesesame.enhancement.files import SHIPPED, load_enhancer, save_enhancer
from closesesame.enhancement.losses import si_snr
from closesesame.enhancement.training import below
from closesesame.evaluation.stealth import measure_stealth, spread
from closesesame.models import Classifier, ResNet
from closesesame.purification import Enhance, Purifier
from closesesame.training import accuracy
from closesesame.training import train as train_model

from . import RESULTS

RATE = 16_000
TRIGGERS = ("airplane", "chirping_birds", "train", "clock_alarm")
"""Classes of sounds that attacks of the benchmarks use."""
LAST_FOLD = "5-"
"""How names of recordings begin that are for measuring."""
COLOURS, COLOUR_S = 100, 5
LEAST_S = 0.25
QUIET = 1e-4
"""Amplitude of what stands around a sound in a recording of a fixed length."""
SETTINGS = EnhancerTraining(steps=20_000, snr_range_db=(-5, 15), validate_every=500)
CLIPS, LEVELS_DB = 120, (0.0, 10.0)
JUDGED, WINDOWS = 40, 60
MOST_BYTES = 2_000_000
NOISY = (
    f"{CLIPS} clips of test speakers of keywords10, mixed with noises that the shipped enhancer never heard: "
    "the last fold of esc10, and each class of trigger sounds. PESQ and STOI are of "
    f"{JUDGED} clips, mixed and enhanced."
)
BARE = (
    f"{CLIPS} clean clips of test speakers of keywords10 through each enhancer; ACC is that of a ResNet "
    "trained on clean clips, on all 600 of them, without and with the enhancer in front. Real-time factors "
    "are seconds of work a second of sound, on one thread: of whole clips, 20 at once, and of one window of "
    "1 s after another. What is untrained has fresh weights, which take as long as others."
)

Sound = Float32[Tensor, " _time"]
Row = dict[str, Any]


def noise_files(data: Path) -> list[Path]:
    """The recordings that are trained on."""
    found = [path for path in sorted((data / "esc10").glob("*/*.flac")) if path.name[:2] != LAST_FOLD]
    background = data / "speech_commands_300" / "_background_noise_"
    found += [path for path in sorted(background.iterdir()) if path.suffix in {".wav", ".flac"}]
    heard = {path.parent.name for path in found} & set(TRIGGERS)
    assert not heard, f"{heard} are classes of trigger sounds"
    return found


def unheard(data: Path) -> dict[str, list[Path]]:
    """The recordings that are measured with, by kind."""
    kinds = {"esc10": sorted((data / "esc10").glob(f"*/{LAST_FOLD}*.flac"))}
    return kinds | {kind: sorted((data / "trigger_noise" / kind).glob("*.flac")) for kind in TRIGGERS}


def sounds(files: Sequence[Path]) -> list[Sound]:
    """Recordings without the silence around them; those of less than `LEAST_S` are left out."""
    trimmed = []
    for path in files:
        sound = torch.from_numpy(read(path, RATE))
        loud = (sound.abs() > QUIET).nonzero().flatten()
        if len(loud) and int(loud[-1] - loud[0]) >= LEAST_S * RATE:
            trimmed.append(sound[int(loud[0]) : int(loud[-1]) + 1])
    return trimmed


def coloured(seed: int) -> list[Sound]:
    """Noises whose power falls by 0 to 6 dB an octave."""
    rng, made = generator(seed, "coloured"), []
    for _ in range(COLOURS):
        spectrum = torch.fft.rfft(torch.randn(COLOUR_S * RATE, generator=rng))
        slope = torch.rand((), generator=rng)
        made.append(torch.fft.irfft(spectrum * torch.arange(1, len(spectrum) + 1.0) ** -slope))
    return [0.1 * sound / sound.square().mean().sqrt() for sound in made]


def speech(data: Path) -> tuple[Dataset, Dataset]:
    """Clips to train on, and those of other speakers to measure with."""
    words = load_splits(data / "keywords10")
    more = load_folder(data / "speech_commands_300")
    clips = torch.cat([words.train.inputs[:], more.inputs[:]])
    speakers = [*(words.train.speakers or ()), *(more.speakers or ())]
    labels = torch.arange(len(clips)) % 2
    return Dataset.of(clips, labels, sample_rate=RATE, speakers=speakers), words.test


def train(data: Path, scratch: Path, steps: int, seed: int) -> Path:
    """Trains, or goes on, and writes the enhancer into the folder `enhancer` of the scratch folder."""
    files, (clips, _) = noise_files(data), speech(data)
    settings = SETTINGS.model_copy(update={"steps": steps})
    kind = MaskGRU()
    network = kind.build(seed)
    noises = [*sounds(files), *coloured(seed)]
    started = time.perf_counter()
    history = train_enhancer(network, clips, noises, settings, seed, checkpoint=scratch / "checkpoint")
    made = {
        "by": "python -m benchmarks enhancer",
        "training": settings.model_dump(mode="json"),
        "seed": seed,
        "improvement_db": history.improvement_db,
        "seconds_of_the_last_run": round(time.perf_counter() - started),
        "speech": ["keywords10, training speakers (MIT)", "speech_commands_300 (CC BY 4.0)"],
        "noises": ["esc10 (CC BY 3.0)", "Speech Commands background (CC BY 4.0)", "coloured noise"],
        "noise_files": [f"{path.parent.name}/{path.name}" for path in files],
    }
    return save_enhancer(kind, network, scratch / "enhancer", made)


@torch.no_grad()
def with_noise(name: str, network: nn.Module, wav: Tensor, unseen: dict[str, list[Sound]]) -> list[Row]:
    """A row for each kind of noise, of means over the clips."""
    rows: list[Row] = []
    for kind, noises in unseen.items():
        row: Row = {"enhancer": name, "noise": kind}
        for level in LEVELS_DB:
            mixed = mixtures(wav, noises, level, generator(0, "measured", kind, level))
            noisy, speech_ = mixed.noisy, mixed.speech
            left = enhanced(network, noisy)
            gain = si_snr(left, speech_) - si_snr(noisy, speech_)
            row[f"SI-SDR improvement at {level:g} dB_dB"] = float(gain.mean())
            if level == min(LEVELS_DB):
                judged = spread(len(wav), JUDGED)
                before, after = (
                    measure_stealth(speech_[judged], clips[judged], RATE) for clips in (noisy, left)
                )
                for measure in ("pesq", "stoi"):
                    row[f"{measure.upper()} at {level:g} dB"] = getattr(before, measure)
                    row[f"{measure.upper()} enhanced"] = getattr(after, measure)
        rows.append(row)
    return rows


@torch.no_grad()
def alone(name: str, purifier: Purifier, few: Dataset, test: Dataset, model: Classifier) -> Row:
    """What is left of few clean clips, what a model behind it knows of all, and the time that it takes."""
    wav = few.inputs[:]
    passed = si_snr(enhanced(purifier, wav), wav)
    return {
        "enhancer": name,
        **sizes(purifier),
        "clean SI-SDR_dB": float(passed.mean()),
        "clean SI-SDR, 10th percentile_dB": float(passed.quantile(0.1)),
        "ACC_%": 100 * accuracy(model, test),
        "ACC enhanced_%": 100 * accuracy(purifier.before(model), test),
        **real_time_factors(purifier, wav),
    }


def sizes(network: nn.Module) -> Row:
    """How many weights a network has, as far as that is known: a file of others is run as it is."""
    return {"parameters": sum(value.numel() for value in network.parameters()) or None}


@torch.no_grad()
def real_time_factors(network: nn.Module, wav: Tensor) -> Row:
    """Seconds of work a second of sound: of whole clips in small batches, and of windows one by one."""
    enhanced(network, wav[:1])
    started = time.perf_counter()
    enhanced(network, wav)
    whole = (time.perf_counter() - started) / (wav.numel() / RATE)
    windows = wav.flatten().split(RATE)[:WINDOWS]
    started = time.perf_counter()
    for window in windows:
        network(window[None])
    return {
        "real-time factor": whole,
        "real-time factor, windows of 1 s": (time.perf_counter() - started) / len(windows),
    }


def enhanced(network: nn.Module, wav: Tensor) -> Tensor:
    """What a network makes of clips, each by itself in time but in small batches."""
    return torch.cat([network(part) for part in wav.split(20)])


def mixtures(wav: Tensor, noises: Sequence[Sound], level_db: float, rng: torch.Generator) -> Mixture:
    """Clips with a stretch of a random noise each, at one SNR, below full scale."""
    chosen = []
    for row in torch.randint(len(noises), (len(wav),), generator=rng).tolist():
        begin = int(torch.randint(max(1, len(noises[row]) - wav.shape[1] + 1), (), generator=rng))
        chosen.append(looped(noises[row][begin:], wav.shape[1]))
    noise = torch.stack(chosen)
    noise = below(wav, noise / rms(noise).clamp(min=1e-6), (level_db, level_db), rng)
    peak = (wav + noise).abs().amax(-1, keepdim=True).clamp(min=1)
    return Mixture(wav / peak, noise / peak)


def measure(data: Path, named: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Rows of each enhancer by noise, and of each enhancer alone, on one thread."""
    torch.set_num_threads(1)
    words = load_splits(data / "keywords10")
    model = train_model(ResNet(), words.train, seed=0)
    few = words.test.sample(CLIPS / len(words.test), 0)
    unseen = {kind: sounds(files) for kind, files in unheard(data).items()}
    noisy, bare = [], []
    for name in named:
        purifier = Enhance(enhancer=name).fit(few, 0)
        shown = name if name == "shipped" else Path(name).name
        bare.append(alone(shown, purifier, few, words.test, model))
        noisy += with_noise(shown, purifier, few.inputs[:], unseen)
        print(json.dumps([bare[-1], *noisy[-len(unseen) :]], indent=1), flush=True)
    for kind in ENHANCEMENTS:
        known = ENHANCEMENTS[kind].sizes
        for size, settings in known.items():
            if size == "small" and settings == known.get("paper"):
                continue
            network = ENHANCEMENTS.make(kind, settings).build(0).eval()
            row = {"enhancer": f"{kind}: {size}, untrained", **sizes(network)}
            bare.append(row | real_time_factors(network, few.inputs[:20]))
            print(json.dumps(bare[-1]), flush=True)
    return noisy, bare


def main() -> int:
    """Trains and measures; with --ship the figures are written, too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with keywords10, esc10 and the others")
    parser.add_argument("scratch", type=Path, help="folder for the checkpoint and the enhancer")
    parser.add_argument(
        "--steps", type=int, default=SETTINGS.steps, help="batches in all; 0 to train nothing"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn")
    parser.add_argument("--ship", action="store_true", help="put the enhancer into the package")
    parser.add_argument("--beside", nargs="*", default=[], help="other enhancers to measure")
    given = parser.parse_args()
    made = train(given.data, given.scratch, given.steps, given.seed) if given.steps else None
    if made is not None and given.ship:
        kind, network = load_enhancer(made)
        about = json.loads((made / "enhancer.json").read_text(encoding="utf-8"))["made"]
        written = save_enhancer(kind, network, SHIPPED, about)
        assert sum(path.stat().st_size for path in written.iterdir()) <= MOST_BYTES
    first = str(made) if made is not None and not given.ship else "shipped"
    noisy, bare = measure(given.data, [first, *given.beside])
    if first == "shipped":
        write_measured(RESULTS / "enhancer.json", noisy, NOISY)
        write_measured(RESULTS / "enhancer_alone.json", bare, BARE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
