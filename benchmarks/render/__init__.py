"""Renders every file under `results` to RESULTS.md, and the figures of the README: no number typed by hand.

python benchmarks/render.py            write
python benchmarks/render.py --check    fail if what is written is not what the files say
"""

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from closesesame.bench.table import precisions, refuse_mixed
from closesesame.core.errors import DataError
from closesesame.evaluation import wilson

HERE = Path(__file__).parent
RESULTS, PAGE, README = HERE / "results", HERE / "RESULTS.md", HERE.parent / "README.md"
Row = dict[str, Any]


def main() -> int:
    """Writes, or checks, both files."""
    contents = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    for name, content in contents.items():
        if odd := mixed(content["rows"]):
            print(f"{name}.json: {odd} was measured with more than one trigger or reference model")
            return 1
        try:
            refuse_mixed(content["rows"] if "precision_train" in content["rows"][0] else [])
        except DataError as error:
            print(f"{name}.json: {error}")
            return 1
    wanted = {PAGE: page(contents), README: readme(README.read_text(), contents)}
    stale = [path.name for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        if stale:
            print(f"{', '.join(stale)} must be rendered again: make results")
        return bool(stale)
    for path, text in wanted.items():
        path.write_text(text)
    return 0


def page(contents: dict[str, Any]) -> str:
    """The whole RESULTS.md."""
    parts = [
        "# Results",
        "Made by `make results` from the files in `results`. Rates are in percent. Behind a mean stands its "
        "Wilson 95 % interval on the test clips of one seed, and behind that, in round brackets, the range "
        "over the seeds. Wilson's interval takes the clips as independent trials; they come from few "
        "speakers, so it is too narrow. RA is measured on the clips of ASR; beside it stands RA of a "
        "never-poisoned model of the same kind (the clean reference model) on the same clips, as it is and "
        "after the same repair. Rate 0 is a model trained on clean data. Seconds of whole rows were taken "
        "beside other work on the machine.",
    ]
    for name, content in contents.items():
        if name in TITLES:
            parts += plain(name, content)
        elif name.startswith("attacks"):
            parts += catalogue(content)
        else:
            parts += matrix(content)
    return "\n\n".join(parts) + "\n"


def mixed(rows: Sequence[Row]) -> str:
    """An attack of which rows with the same data, model and seed differ in RA of the reference, if any."""
    known: dict[tuple[Any, ...], float] = {}
    for row in rows:
        if row.get("ra_reference") is not None:
            key = row["data"], row["model"], row["attack"], row["seed"]
            if known.setdefault(key, row["ra_reference"]) != row["ra_reference"]:
                return str(row["attack"])
    return ""


def grid(content: Any) -> list[str]:
    """A table of models and repairs, one line for all seeds."""
    rows: list[Row] = [row for row in content["rows"] if not row.get("error")]
    failed = [row for row in content["rows"] if row.get("error")]
    first, host = rows[0], content["host"]
    title = f"## {first['data']}, {first['task']}s: {content['recipe']}"
    about = (
        f"{content.get('about', '')} {first['training_clips']:,} training clips, {first['test_clips']:,} "
        f"test clips, closesesame {content['version']}, torch {host['torch']} on {host['processor']}, "
        f"{' and '.join(sorted(precisions(rows)))}. {protocol_of(content)}"
    ).strip()
    head: tuple[str, ...] = ("model", "attack", "poisoning rate", "repair", "clean clips", "seeds")
    head += ("ACC", "ASR", "RA", "RA of reference", "RA of reference, repaired", "DER", "s")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [line(group, victim_of(group[0], rows)) for group in groups(rows)]
    parts = [title, about, "\n".join(lines)]
    if failed:
        parts.append(
            "Failed: " + "; ".join(f"{row['attack']}, {row['method']}: {row['error']}" for row in failed)
        )
    return parts


def protocol_of(content: Any) -> str:
    """How a grid of removals was run, and what its defaults were chosen on."""
    about = content.get("protocol")
    if about is None:
        return ""
    source = {"validation": "speakers the suspect never heard", "train": "the suspect's training set"}
    length = {
        "published": "as long as its authors run it",
        "ours": f"for {about['steps']} batches of {about['batch_size']}",
    }
    lengths = ", and once more ".join(length[name] for name in about["budgets"])
    return (
        f"Protocol {about['version']}: clean clips from {source[about['clean_from']]}, held out by speaker; "
        f"each removal {lengths}. {content['tuned_on']}"
    ).strip()


def matrix(content: Any) -> list[str]:
    """A line a removal and model: ASR / RA by attack, and what it does to a clean model; then all rows."""
    title, about, everything, *failed = grid(content)
    rows: list[Row] = [row for row in content["rows"] if not row.get("error")]
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    head = ["model", "repair", "seeds", *(f"{attack}: ASR / RA / reference" for attack in attacks)]
    head += ["ACC after", "ACC lost", "DER", "clean model: ACC lost", "s"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines_of = dict.fromkeys(
        (row["data"], row["model"], row["clean_fraction"], method_of(row)) for row in rows
    )
    victims = list(dict.fromkeys(key[:2] for key in lines_of))
    for data, model, fraction, repair in sorted(lines_of, key=lambda key: victims.index(key[:2])):
        same = [row for row in rows if (row["data"], row["model"]) == (data, model)]
        mine = [row for row in same if (row["clean_fraction"], method_of(row)) == (fraction, repair)]
        poisoned = [row for row in mine if row["poisoning_rate"]]
        label = victim_of(mine[0], rows)
        cells = [label, "*victim*" if repair == "none" else repair]
        cells.append(str(len({row["seed"] for row in mine})))
        cells += pairs(poisoned, attacks)
        lost, cleanly = (
            lost_acc([r for r in mine if bool(r["poisoning_rate"]) == bad], same) for bad in (True, False)
        )
        der = mean(poisoned, "der") if poisoned else None
        cells += ["" if not poisoned else f"{100 * statistics.fmean(row['acc'] for row in poisoned):.1f}"]
        cells += [lost, "" if der is None else f"{der:.3f}", cleanly]
        cells += [f"{statistics.fmean(row['seconds'] for row in mine):.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    parts = [title, f"{about} {CELLS}", "\n".join(lines)]
    return [*parts, f"<details><summary>All rows</summary>\n\n{everything}\n\n</details>", *failed]


def lost_acc(repaired: Sequence[Row], rows: Sequence[Row]) -> str:
    """By how many points ACC is lower than that of the models before repair, as a mean; empty without one."""
    gaps = []
    for row in repaired:
        if row["method"] == "none":
            return ""
        keys = ("attack", "poisoning_rate", "seed")
        before = [r for r in rows if r["method"] == "none" and all(r[key] == row[key] for key in keys)]
        gaps += [r["acc"] - row["acc"] for r in before]
    return f"{100 * statistics.fmean(gaps):.1f}" if gaps else ""


def catalogue(content: Any) -> list[str]:
    """A line an attack and model: what it plants at each poisoning rate, and how much it changes a clip."""
    rows: list[Row] = [row for row in content["rows"] if row["method"] == "none" and not row.get("error")]
    first, host = rows[0], content["host"]
    rates = sorted({row["poisoning_rate"] for row in rows if row["poisoning_rate"]})
    head = ["model", "attack", "seeds", "clean model: ACC", "ASR", "RA"]
    for share in rates:
        head += [f"{100 * share:g} %: ACC", "ASR", "of the class"]
    head += ["SNR, dB", "LSD, dB", "PESQ", "STOI"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for model, attack in dict.fromkeys((row["model"], row["attack"]) for row in rows):
        mine = [row for row in rows if (row["model"], row["attack"]) == (model, attack)]
        at = {share: [row for row in mine if row["poisoning_rate"] == share] for share in (0.0, *rates)}
        cells = [model, attack, str(len({row["seed"] for row in mine}))]
        cells += [points(at[0.0], name) for name in ("acc", "asr", "ra")]
        for share in rates:
            cells += [points(at[share], name) for name in ("acc", "asr", "poisoned_share_of_target")]
        cells += [level(at[0.0] or mine, name) for name in ("snr_db", "lsd_db", "pesq", "stoi")]
        lines.append(f"| {' | '.join(cells)} |")
    about = (
        f"{content['about']} {first['training_clips']:,} training and {first['test_clips']:,} test clips of "
        f"{first['data']}; {first['precision_train']} on {host['processor']}. Means over the seeds; "
        "behind ASR their range where there are several. SNR, log-spectral distance, PESQ and STOI compare "
        "triggered with clean test clips."
    )
    return [f"## Attacks: {content['recipe']}", about, "\n".join(lines)]


def points(group: list[Row], name: str) -> str:
    """A mean over seeds in percent, for ASR with its range."""
    value = mean(group, name) if group else None
    if value is None:
        return ""
    found = [100 * row[name] for row in group]
    spread = f" ({min(found):.0f} to {max(found):.0f})" if name == "asr" and len(found) > 1 else ""
    return f"{100 * value:.1f}{spread}"


def level(group: list[Row], name: str) -> str:
    """A mean over seeds as it is."""
    known = [row[name] for row in group if row.get(name) is not None]
    return f"{statistics.fmean(known):.{1 if name.endswith('db') else 2}f}" if known else ""


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that differ by their seed alone, repairs behind their victim in the order they were measured."""
    names = ["none", *dict.fromkeys(method_of(row) for row in rows)]

    def key(row: Row) -> tuple[Any, ...]:
        share = row["clean_fraction"] or 0
        where = row["data"], row["model"], row["attack"], row["poisoning_rate"]
        return *where, names.index(method_of(row)), share

    return [list(group) for _, group in groupby(sorted(rows, key=key), key)]


def victim_of(row: Row, rows: Sequence[Row]) -> str:
    """The model of a row, with its data set where the rows have several."""
    several = len({other["data"] for other in rows}) > 1
    return f"{row['data']}, {row['model']}" if several else str(row["model"])


def method_of(row: Row) -> str:
    """The name of a repair with the settings that are not its defaults."""
    changed = ", ".join(f"{name} {value(given)}" for name, given in row["settings"].items())
    named = row["method"] != row["method_name"]
    return f"{row['method']} ({changed})" if changed and not named else str(row["method"])


def mean(group: list[Row], name: str) -> float | None:
    """The mean over the seeds, None if a seed has none."""
    values = [row[name] for row in group]
    return None if None in values else statistics.fmean(values)


def line(group: list[Row], victim: str) -> str:
    """One line of the table."""
    row = group[0]
    poisoned = ""
    if row["poisoned_clips"]:
        share = 100 * row["poisoned_share_of_target"]
        poisoned = f" ({row['poisoned_clips']} clips, {share:.0f} % of their class)"
    clean = "" if row["clean_fraction"] is None else f"{100 * row['clean_fraction']:g} %"
    der = mean(group, "der")
    cells = [
        victim,
        row["attack"],
        f"{100 * row['poisoning_rate']:g} %{poisoned}",
        method_of(row),
        clean,
        str(len(group)),
        rate(group, "acc", "test_clips"),
        rate(group, "asr", "triggered_clips"),
        rate(group, "ra", "triggered_clips"),
        rate(group, "ra_reference", "triggered_clips"),
        rate(group, "ra_reference_repaired", "triggered_clips"),
        "" if der is None else f"{der:.3f}",
        f"{mean(group, 'seconds'):.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def rate(group: list[Row], name: str, clips: str) -> str:
    """Mean, Wilson's interval on the clips of one seed, and the range over the seeds, in percent."""
    value = mean(group, name)
    if value is None:
        return ""
    low, high = wilson(value, group[0][clips])
    found = [100 * row[name] for row in group]
    spread = f" ({min(found):.1f} to {max(found):.1f})" if len(found) > 1 else ""
    return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]{spread}"


TITLES = {
    "cost": "Cost of the removals, one after the other on one thread",
    "neurons": "Median gradient norm of the clean loss, by what a neuron is for",
    "attacks-several": "Three backdoors in one model: three voices, three target labels",
    "removals-mended": "Removals before and after they were mended",
    "attacks-rhythm": "Rhythm: what each seed draws, and what it plants",
    "commands": "Whole commands in a fresh clone",
    "speed-stamping": "Stamping: clips of one second per second on one thread",
    "speed-epoch": "One epoch of the default victim, by precision and memory format",
    "engine-failures": "Engine: cells that fail by design",
    "engine-memory": "Engine: peak memory over 100,000 one-second clips",
    "engine-overhead": "Engine: milliseconds a cell that does nothing",
    "engine-ray": "Engine: the same grid on processes and on local Ray, whose workers are killed",
    "engine-storm": "Engine: kill -9 at random moments, against an uninterrupted run",
    "engine-workers": "Engine: one worker against two",
    "faults": "Kills, full disks, too little memory and read-only folders, put into real commands",
    "fuzz": "Hostile input: works, or is refused in one sentence",
    "page-grid": "Page of a grid in headless Chromium",
    "peers-art": "Peers: ART's poison detectors on embedded speech",
}


def plain(name: str, content: Any) -> list[str]:
    """A table with the fields of the rows as they are."""
    columns = list(dict.fromkeys(key for row in content["rows"] for key in row))
    lines = [f"| {' | '.join(column.replace('_', ' ') for column in columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(value(row.get(column)) for column in columns)} |" for row in content["rows"]]
    host = content["host"]
    where = f"{content.get('about', '')} {host['cores']} cores of {host['processor']}, torch {host['torch']}."
    return [f"## {TITLES[name]}", where.strip(), "\n".join(lines)]


def value(given: Any) -> str:
    """One field of a plain table."""
    if isinstance(given, list):
        return ", ".join(map(value, given))
    if isinstance(given, float):
        return f"{given:.2f}" if abs(given) < 100 else f"{given:.0f}"
    return "" if given is None else str(given)


def readme(text: str, contents: dict[str, Any]) -> str:
    """The README with its figures made anew."""
    for name, make in (("repairs", repairs),):
        begin, end = (f"<!-- {name}: {edge} -->" for edge in ("begin", "end"))
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = "\n".join([before + begin, *make(contents), end + after])
    return text


CELLS = (
    "A cell is ASR / RA / RA of a never-poisoned model after the same repair, in percent: means over "
    "the seeds, and "
    "in brackets the range of ASR where seeds differ by a point or more. A dash was not measured."
)


def repairs(contents: dict[str, Any]) -> list[str]:
    """All removals that were measured on the default model of the development bench."""
    found = [content for name, content in contents.items() if name.startswith("development")]
    rows = list({row["id"]: row for content in found for row in content["rows"] if not row["error"]}.values())
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    head = ["repair", "seeds", *attacks, "*ACC lost by a clean model*"]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *overview(rows, attacks))]
    return [*lines, "", f"{CELLS} {found[0]['tuned_on']}"]


def overview(rows: Sequence[Row], attacks: Sequence[str]) -> Iterator[list[str]]:
    """The cells of one model: its victims, and what removals leave, from the highest mean RA on."""
    poisoned = [row for row in rows if row["poisoning_rate"]]
    found = {name: [row for row in poisoned if method_of(row) == name] for name in map(method_of, poisoned)}

    def right(name: str) -> tuple[bool, float]:
        return name != "none", -statistics.fmean(row["ra"] for row in found[name])

    for name in sorted(found, key=right):
        harm = lost_acc([row for row in rows if not row["poisoning_rate"] and method_of(row) == name], rows)
        seeds = str(len({row["seed"] for row in found[name]}))
        yield ["*victim*" if name == "none" else name, seeds, *pairs(found[name], attacks), harm]


def pairs(rows: Sequence[Row], attacks: Sequence[str]) -> list[str]:
    """A cell an attack."""
    return [cell([row for row in rows if row["attack"] == attack]) for attack in attacks]


def cell(group: list[Row]) -> str:
    """ASR with its range over the seeds, RA, and RA of the reference after the same repair, in percent."""
    if not group:
        return "–"
    asr = [100 * row["asr"] for row in group]
    spread = f" ({min(asr):.0f}–{max(asr):.0f})" if max(asr) - min(asr) >= 1 else ""
    values = [mean(group, name) for name in ("asr", "ra", "ra_reference_repaired")]
    shown = ["–" if value is None else f"{100 * value:.0f}" for value in values]
    return f"{shown[0]}{spread} / {shown[1]} / {shown[2]}"


if __name__ == "__main__":
    sys.exit(main())
