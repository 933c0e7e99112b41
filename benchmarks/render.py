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

import strength
from closesesame.evaluation import wilson

HERE = Path(__file__).parent
RESULTS, PAGE, README = HERE / "results", HERE / "RESULTS.md", HERE.parent / "README.md"
CURVES = HERE / "strength.svg"
Row = dict[str, Any]


def main() -> int:
    """Writes, or checks, both files."""
    contents = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    for name, content in contents.items():
        if odd := mixed(content["rows"]):
            print(f"{name}.json: {odd} was measured with more than one trigger or twin")
            return 1
    wanted = {PAGE: page(contents), README: readme(README.read_text(), contents)}
    if "strength" in contents:
        wanted[CURVES] = strength.plot(contents["strength"]["rows"])
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
        "Made by `make results` from the files in `results`. Rates are in percent; behind a rate stands its "
        "Wilson 95 % interval on the test clips of one seed, and behind ASR the range over several seeds. "
        "RA is measured on the clips of ASR, its ceiling is that of a never-poisoned twin. Rate 0 is a model "
        "trained on clean data. Seconds of whole rows were taken beside other work on the machine.",
    ]
    for name, content in contents.items():
        if name in TITLES:
            parts += plain(name, content)
        elif name.startswith("attacks"):
            parts += catalogue(content)
        else:
            parts += matrix(name, content)
    return "\n\n".join(parts) + "\n"


def mixed(rows: Sequence[Row]) -> str:
    """An attack of which rows with the same data, model and seed have different ceilings of RA, if any."""
    ceilings: dict[tuple[Any, ...], float] = {}
    for row in rows:
        if row.get("ra_ceiling") is not None:
            key = row["data"], row["model"], row["attack"], row["seed"]
            if ceilings.setdefault(key, row["ra_ceiling"]) != row["ra_ceiling"]:
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
        f"{first['precision']}."
    ).strip()
    head: tuple[str, ...] = ("model", "attack", "poisoning rate", "repair", "clean clips", "seeds")
    head += ("ACC", "ASR", "RA", "RA ceiling", "DER", "s")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [line(group, victim_of(group[0], rows)) for group in groups(rows)]
    parts = [title, about, "\n".join(lines)]
    if failed:
        parts.append(
            "Failed: " + "; ".join(f"{row['attack']}, {row['defence']}: {row['error']}" for row in failed)
        )
    return parts


def matrix(name: str, content: Any) -> list[str]:
    """A line a removal and model: ASR / RA by attack, and what it does to a clean model; then all rows."""
    title, about, everything, *failed = grid(content)
    rows: list[Row] = [row for row in content["rows"] if not row.get("error")]
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    head = ["model", "repair", "seeds", *(f"{attack}: ASR / RA" for attack in attacks)]
    head += ["ACC after", "ACC lost", "DER", "clean model: ACC lost", "s"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines_of = dict.fromkeys((row["data"], row["model"], row["clean_fraction"], defence(row)) for row in rows)
    victims = list(dict.fromkeys(key[:2] for key in lines_of))
    for data, model, fraction, repair in sorted(lines_of, key=lambda key: victims.index(key[:2])):
        same = [row for row in rows if (row["data"], row["model"]) == (data, model)]
        mine = [row for row in same if (row["clean_fraction"], defence(row)) == (fraction, repair)]
        poisoned = [row for row in mine if row["poisoning_rate"]]
        label = victim_of(mine[0], rows)
        cells = [label, "*victim*" if repair == "none" else repair]
        cells.append(str(len({row["seed"] for row in mine})))
        cells += pairs(poisoned, attacks, "asr", "ra")
        lost, cleanly = (
            lost_acc([r for r in mine if bool(r["poisoning_rate"]) == bad], same) for bad in (True, False)
        )
        der = mean(poisoned, "der") if poisoned else None
        cells += ["" if not poisoned else f"{100 * statistics.fmean(row['acc'] for row in poisoned):.1f}"]
        cells += [lost, "" if der is None else f"{der:.3f}", cleanly]
        cells += [f"{statistics.fmean(row['seconds'] for row in mine):.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
        if repair == "none":
            cells[1:] = ["*never-poisoned twin*", cells[2], *pairs(mine, attacks, "", "ra_ceiling")]
            lines.append(f"| {' | '.join(cells)} {'| ' * (len(head) - len(cells))}|")
    parts = [title, f"{about} ASR / RA in percent, means over the seeds.", "\n".join(lines)]
    if name == "strength":
        parts += [strength.RULE, strength.table(rows), "![ASR and ACC against strength](strength.svg)"]
    return [*parts, f"<details><summary>All rows</summary>\n\n{everything}\n\n</details>", *failed]


def lost_acc(repaired: Sequence[Row], rows: Sequence[Row]) -> str:
    """By how many points ACC is lower than that of the models before repair, as a mean; empty without one."""
    gaps = []
    for row in repaired:
        if row["defence"] == "none":
            return ""
        keys = ("attack", "poisoning_rate", "seed")
        before = [r for r in rows if r["defence"] == "none" and all(r[key] == row[key] for key in keys)]
        gaps += [r["acc"] - row["acc"] for r in before]
    return f"{100 * statistics.fmean(gaps):.1f}" if gaps else ""


def catalogue(content: Any) -> list[str]:
    """A line an attack and model: what it plants at each poisoning rate, and how much it changes a clip."""
    rows: list[Row] = [row for row in content["rows"] if row["defence"] == "none" and not row.get("error")]
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
        f"{first['data']}; {first['precision']} on {host['processor']}. Means over the seeds; behind ASR "
        "their range where there are several. SNR, log-spectral distance, PESQ and STOI compare triggered "
        "with clean test clips."
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
    names = ["none", *dict.fromkeys(defence(row) for row in rows)]

    def key(row: Row) -> tuple[Any, ...]:
        share = row["clean_fraction"] or 0
        where = row["data"], row["model"], row["attack"], row["poisoning_rate"]
        return *where, names.index(defence(row)), share

    return [list(group) for _, group in groupby(sorted(rows, key=key), key)]


def victim_of(row: Row, rows: Sequence[Row]) -> str:
    """The model of a row, with its data set where the rows have several."""
    several = len({other["data"] for other in rows}) > 1
    return f"{row['data']}, {row['model']}" if several else str(row["model"])


def defence(row: Row) -> str:
    """The name of a repair with the settings that are not its defaults."""
    changed = ", ".join(f"{name} {value(given)}" for name, given in row["settings"].items())
    named = row["defence"] != row["defence_name"]
    return f"{row['defence']} ({changed})" if changed and not named else str(row["defence"])


def mean(group: list[Row], name: str) -> float | None:
    """The mean over the seeds, None if a seed has none."""
    values = [row[name] for row in group]
    return None if None in values else statistics.fmean(values)


def line(group: list[Row], victim: str) -> str:
    """One line of the table."""
    row = group[0]
    asr = [100 * r["asr"] for r in group]
    spread = f" ({min(asr):.1f} to {max(asr):.1f})" if len(group) > 1 else ""
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
        defence(row),
        clean,
        str(len(group)),
        rate(group, "acc", "test_clips"),
        rate(group, "asr", "triggered_clips") + spread,
        rate(group, "ra", "triggered_clips"),
        rate(group, "ra_ceiling", "triggered_clips", interval=False),
        "" if der is None else f"{der:.3f}",
        f"{mean(group, 'seconds'):.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def rate(group: list[Row], name: str, clips: str, *, interval: bool = True) -> str:
    """Mean and interval, in percent."""
    value = mean(group, name)
    if value is None:
        return ""
    low, high = wilson(value, group[0][clips])
    return f"{100 * value:.1f}" + (f" [{100 * low:.1f}, {100 * high:.1f}]" if interval else "")


TITLES = {
    "cost": "Cost of the removals, one after the other on one thread",
    "neurons": "Median gradient norm of the clean loss, by what a neuron is for",
    "attacks-several": "Three backdoors in one model: three voices, three target labels",
    "commands": "Whole commands in a fresh clone",
    "speed-stamping": "Stamping: clips of one second per second on one thread",
    "speed-epoch": "One epoch of the default victim, by precision and memory format",
    "engine-failures": "Engine: cells that fail by design",
    "engine-memory": "Engine: peak memory over 100,000 one-second clips",
    "engine-overhead": "Engine: milliseconds a cell that does nothing",
    "engine-ray": "Engine: the same grid on processes and on local Ray, whose workers are killed",
    "engine-storm": "Engine: kill -9 at random moments, against an uninterrupted run",
    "engine-workers": "Engine: one worker against two",
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
    for name, make in (("repairs", repairs), ("models", models)):
        begin, end = (f"<!-- {name}: {edge} -->" for edge in ("begin", "end"))
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = "\n".join([before + begin, *make(contents), end + after])
    return text


def repairs(contents: dict[str, Any]) -> list[str]:
    """Every removal that was measured with several seeds, on the default model."""
    rows = [row for row in contents["claims-seeds"]["rows"] if not row.get("error")]
    attacks = sorted({row["attack"] for row in rows})
    head = ["ASR / RA, %", *attacks, "*ACC lost by a clean model*"]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *overview(rows, attacks))]
    return [*lines, "", f"Means of {len({row['seed'] for row in rows})} seeds."]


def models(contents: dict[str, Any]) -> list[str]:
    """The other models, with what does something on them."""
    rows = [row for name in ("claims-victims", "claims-attention") for row in contents[name]["rows"]]
    rows = [row for row in rows if row["defence"] in {"none", "ft_augmented", "scratch"}]
    attacks = sorted({row["attack"] for row in rows})
    head = ["ASR / RA, %", "", *attacks, "*ACC lost by a clean model*"]
    lines = [head, ["---"] * len(head)]
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        lines += [[model, *cells] for cells in overview(mine, attacks)]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), "", "One seed."]


def overview(rows: Sequence[Row], attacks: Sequence[str]) -> Iterator[list[str]]:
    """The cells of one model: its victims, what removals leave, from the lowest mean ASR on, and the twin."""
    poisoned = [row for row in rows if row["poisoning_rate"]]
    found = {name: [row for row in poisoned if defence(row) == name] for name in map(defence, poisoned)}

    def left(name: str) -> tuple[bool, float]:
        return name != "none", statistics.fmean(row["asr"] for row in found[name])

    for name in sorted(found, key=left):
        harm = lost_acc([row for row in rows if not row["poisoning_rate"] and defence(row) == name], rows)
        yield ["victim" if name == "none" else name, *pairs(found[name], attacks, "asr", "ra"), harm]
    yield ["*never-poisoned twin*", *pairs(found["none"], attacks, "", "ra_ceiling"), ""]


def pairs(rows: Sequence[Row], attacks: Sequence[str], *names: str) -> list[str]:
    """A cell an attack."""
    return [pair([row for row in rows if row["attack"] == attack], *names) for attack in attacks]


def pair(group: list[Row], *names: str) -> str:
    """Two means in percent, a dash for what was not measured."""
    values = [mean(group, name) if group and name else None for name in names]
    return " / ".join("–" if value is None else f"{100 * value:.0f}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
