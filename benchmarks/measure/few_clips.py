"""What unlabelled speech buys where clean clips are few: restore with 1 % clean clips and other speech.

python -m benchmarks few_clips DATA STORE

The speech is real words that the model does not know, real digits, or synthetic words. Killed, it goes on
where it was; models are shared with every study and grid in the same store.
"""

import sys
import time
from pathlib import Path
from typing import Any

from closesesame.bench.cells import JudgeCell, MethodCell
from closesesame.bench.identity import Code, Contents, identity
from closesesame.bench.queue.artifacts import ArtifactStore
from closesesame.bench.queue.store import Job
from closesesame.bench.queue.worker import Task
from closesesame.bench.results import write_measured
from closesesame.bench.tasks import Result, as_planned, exam_of, given_to
from closesesame.data import Dataset
from closesesame.data.speech import synthetic_speech
from closesesame.data.unlabelled import read_audio
from closesesame.models import ModelCard
from closesesame.removal import REMOVALS

from .studies import Rows, Study, victims_in

NAME = "benchmarks.measure.few_clips"
USES = ("closesesame.removal", "closesesame.data.unlabelled", "closesesame.data.speech")
NONE, SYNTHETIC = "none", "synthetic words"
FOLDERS = {"other words": "speech_commands_300", "digits": "fsdd"}
SOURCES = (NONE, *FOLDERS, SYNTHETIC)
MOST_CLIPS = 300
ABOUT = (
    f"Audio: at most {MOST_CLIPS} clips of unlabelled speech beside the clean clips: other words (Speech "
    "Commands), digits (FSDD), or words that espeak-ng speaks. Believed: those on which the suspect agrees "
    "with itself. That `sesame remove` takes synthetic words where clean clips are few was decided by the "
    "rows of airplane, an attack of the development bench, as they were before pieces of other clips were "
    "in the augmentation of restore; the others are of the test bench."
)


class Few(JudgeCell):
    """A victim as it is, the repair that is planned for it, and the unlabelled speech that it gets."""

    repair: dict[str, Any]
    audio: str


def jobs(planned: list[Job]) -> list[Job]:
    """Four jobs a repair, one a source."""
    code, made, known, heard = Code().of(*USES), [], {job.id: job for job in planned}, dict[str, str]()
    for victim in victims_in(planned):
        for name, (judge, cell) in victim.repaired.items():
            repair = known[cell.judged]
            needs = tuple(dict.fromkeys((*victim.judged.needs, *repair.needs)))
            for source in SOURCES:
                heard[source] = heard.get(source) or hash_of(source, Path(cell.where.data_folder))
                made.append(
                    Job(
                        id=identity(NAME, repair.id, judge.id, heard[source], MOST_CLIPS, code),
                        task=f"{NAME}:repaired",
                        payload=Few(**cell.payload(), repair=repair.payload, audio=source).payload(),
                        needs=needs,
                        label=f"{name}, audio {source}: {victim.judged.label.removeprefix('none: ')}",
                    )
                )
    return made


def hash_of(source: str, data: Path) -> str:
    """What is heard: its name, and the contents of its folder."""
    if source not in FOLDERS:
        return source
    contents, folder = Contents(), data / FOLDERS[source]
    return identity(source, [contents.of(path) for path in sorted(folder.rglob("*")) if path.is_file()])


@as_planned
def repaired(job: Job, store: ArtifactStore) -> Result:
    """Repairs a victim with the clean clips and the speech, and measures it."""
    few = Few.read(job.payload)
    cell = MethodCell.read(few.repair)
    given, exam = given_to(cell, store), exam_of(few, store)
    assert given.suspect is not None
    audio = speech(few.audio, Path(few.where.data_folder), given.suspect.card, few.seed)
    method, started = REMOVALS.recall(cell.method.name, cell.method.settings), time.perf_counter()
    made = method.remove(given.suspect, given.clean, cell.seed, audio=audio)
    seconds, scores = time.perf_counter() - started, exam.score(made.model)
    assert scores.asr is not None
    assert scores.ra is not None
    where = {"data": few.data.entry.name, "model": few.labels["model"], "attack": few.labels["attack"]}
    figures = {"acc": scores.acc.value, "asr": scores.asr.value, "ra": scores.ra.value}
    return {
        **where,
        "seed": few.seed,
        "method": few.labels["method"],
        "clean_clips": len(given.clean or ()),
        "audio": few.audio,
        "audio_clips": len(audio or ()),
        **figures,
        "seconds": seconds,
        **made.chosen,
    }


def speech(source: str, data: Path, card: ModelCard, seed: int) -> Dataset | None:
    """At most `MOST_CLIPS` clips that fit the model, drawn at random; their labels mean nothing."""
    assert card.sample_rate is not None
    duration_s = card.input_shape[-1] / card.sample_rate
    if source == NONE:
        return None
    if source == SYNTHETIC:
        found = synthetic_speech(sample_rate=card.sample_rate, duration_s=duration_s, takes=1).train
    else:
        found = read_audio(
            data / FOLDERS[source], sample_rate=card.sample_rate, duration_s=duration_s, seed=seed
        ).data
    return found.sample(min(1.0, MOST_CLIPS / len(found)), seed)


def write(rows: Rows, done: list[str], out: Path) -> None:
    """Writes the rows that there are."""
    write_measured(out, [rows[name].result for name in done], ABOUT)


TABLE: dict[str, Task] = {"repaired": repaired}
STUDY = Study(NAME, jobs, write)


def main() -> int:
    """Runs the study."""
    return STUDY.main(sys.modules[__name__].__doc__ or "")
