"""The command that reports on a data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from closesesame.cli.app import command
from closesesame.cli.inputs import read, source_of
from closesesame.cli.options import AUDIO, AudioOptions, Data, Force
from closesesame.cli.outputs import data_folder, size_of
from closesesame.cli.printing import Answer, facts, notes, table

if TYPE_CHECKING:
    from closesesame.data import ReadingReport


@command("data")
def data(
    source: Data, *, out: Path | None = None, force: Force = False, options: AudioOptions = AUDIO
) -> Answer:
    """Read a data set and report what is in it, one row a class; refuse what cannot be used.

    A data set is a folder with one folder a class, which holds recordings or one folder a speaker; the same
    in folders 'train', 'validation' and 'test'; a folder as Speech Commands has it; or a table (.csv) with
    the columns path, label and, if known, speaker and part.

    Args:
        out: Also write it as a folder of recordings: resampled, cut or padded, with the lists of its parts.

    Examples:
        sesame data CLIPS
        sesame data CLIPS --sample-rate 8000 --duration-s 0.5 --out SHORT
        sesame data synthetic
    """
    from closesesame.data.export import export

    read_from = source_of(source, options)
    place = None if out is None else data_folder(out, read_from.inputs, force=force)
    found = read(read_from)
    if place is not None:
        place.need(size_of(found.splits))
        place.write(lambda made: export(found.splits, made))
    content = found.report.as_json() | {"written_to": None if out is None else str(out)}
    return Answer(content, lambda: _print(found.report))


def _print(report: "ReadingReport") -> None:
    rows, parts = report.by_class(), report.parts()
    table([name for name in rows[0] if any(row[name] for row in rows)], rows)
    table(tuple(parts[0]) if parts else (), parts)
    facts(
        {
            "read": f"{len(report.clips)} clips of {report.duration_s:g} s at {report.sample_rate:,} Hz",
            "split": f"{report.split}: {report.why}",
        }
    )
    for fact in report.facts:
        facts({"also": fact})
    notes(report.surprises())
