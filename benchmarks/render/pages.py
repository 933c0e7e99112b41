"""The pages of results, one for each kind of question; every section is one result file."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from closesesame.bench.table import precisions
from closesesame.evaluation.measures import (
    ACC,
    ASR,
    DER,
    FPR_AT_OWN,
    OF_ADVERSARIES,
    OF_MODELS,
    OF_TRIGGERS,
    RA,
    TPR_AT_OWN,
    Measure,
)
from closesesame.families import Family

from .against import BENCH
from .against import section as against
from .asap import choices, main_table
from .canaries import section as canaries
from .courses import section as courses
from .rows import (
    BARE,
    Row,
    Rows,
    by_seed,
    distinct,
    families_of,
    interval,
    lost_acc,
    mean,
    measured,
    method_of,
    model_of,
    plain,
    points,
    poisoned,
    seeds_of,
    short,
    shown,
    spread,
    table,
    values,
    where,
)

Contents = Mapping[str, Mapping[str, Any]]
"""Result files by name."""


@dataclass(frozen=True)
class Page:
    """A page of results.

    Attributes:
        title: its heading.
        about: how to read it.
        plain: result files that are shown as they are, with the headings of their sections.
        families: whose methods stand on it.
    """

    title: str
    about: str
    plain: Mapping[str, str]
    families: tuple[str, ...] = ()


RATES = (
    "Rates are in percent. Behind a mean stands its Wilson 95 % interval on the test clips of one seed, and "
    "behind that, in round brackets, the range over the seeds. Wilson's interval takes the clips as "
    "independent trials; they come from few speakers, so it is too narrow. Rate 0 is a model trained on "
    "clean data."
)
PAGES = {
    "attacks": Page(
        "Attacks: what they plant, and how much they change a clip",
        f"{RATES} ASR and RA are measured on the same clips.",
        {
            "attacks_several": "Three backdoors in one model: three voices, three target labels",
            "attacks_rhythm": "Rhythm: what each seed draws, and what it plants",
            "clean_label": "Clips that are moved towards triggered ones: how near, and at what cost",
        },
    ),
    "removals": Page(
        "Removals and purification: what they leave of a backdoor and of the model",
        f"{RATES} RA is measured on the clips of ASR; beside it stands RA of a never-poisoned model of the "
        "same kind (the clean reference model) on the same clips, as it is and after the same method.",
        {
            "why_restore": "Why restore works: what a trigger does to the features, before and after",
            "canaries": "Canaries: how well they predict the attacker's ASR after a repair",
            "real_models": "Real models from packages: opened, measured, and one of them repaired",
            "hugging_face": "Models of transformers: handed over with a backdoor, repaired and handed back",
            "few_clips": "Few clean clips: what unlabelled speech adds to restore",
            "why_asap": "Why rows of ASAP's main table equal the victim's",
            "why_asap_sounds": "What ASAP's enhancer takes off each trigger sound",
            "cost": "Cost of the removals",
            "enhancer": "Enhancers on mixtures of speech and noise",
            "enhancer_alone": "Enhancers on clean clips, and their time",
            "removals_mended": "Removals of version 0.1.0, and the same at the length of their authors",
            "neurons": "Median gradient norm of the clean loss, by what a neuron is for",
        },
        ("removal", "purification"),
    ),
    "untrusted": Page(
        "Untrusted data: robust training, and detection of poisoned clips",
        f"{RATES} A robust training gets the poisoned training set. It lasts as many epochs as its "
        "description says; where authors have more clips and nothing else is said, theirs are more batches. "
        "A detection judges every clip; poisoned is positive.",
        {
            "courses": "What is learned first: robust trainings epoch by epoch",
            "untrusted_several": "Four backdoors at once: plain training and safe",
            "peers_art": "Beside the detectors of ART, on embedded speech",
        },
        ("robust_training", "detection"),
    ),
    "inspection": Page(
        "Inspection: which models are backdoored",
        RATES,
        {},
        ("inspection",),
    ),
    "engine": Page(
        "The engine: kills, full disks, hostile input, speed",
        "A row is one measurement on the machine that its section names.",
        {
            "engine_storm": "Kill -9 at random moments, against an uninterrupted run",
            "faults": "Kills, full disks, too little memory and read-only folders, put into real commands",
            "fuzz": "Hostile input: works, or is refused in one sentence",
            "engine_ray": "The same grid on processes and on local Ray, whose workers are killed",
            "engine_failures": "Cells that fail by design",
            "engine_overhead": "Milliseconds a cell that does nothing",
            "engine_workers": "One worker against two",
            "engine_memory": "Peak memory over 100,000 one-second clips",
            "speed_epoch": "One epoch of the default suspect, by precision and memory format",
            "speed_freed": "One epoch where freed memory goes back to the system, and where it is kept",
            "speed_stamping": "Triggers put into clips: one-second clips per second on one thread",
            "gate": "A gate on sound through a pipe, on one thread; killed in the middle and started again",
            "screen": "Screening by size of the data set, with a given model; and the same again",
            "page_grid": "Page of a grid in headless Chromium",
            "commands": "Whole commands in a fresh clone",
        },
    ),
}
"""By file name."""
PLAIN = {name: (page, title) for page, about in PAGES.items() for name, title in about.plain.items()}


def page_of(family: Family) -> str:
    """The page that the methods of a family stand on."""
    return next(name for name, page in PAGES.items() if family.name in page.families)


def render(name: str, contents: Contents) -> str:
    """A whole page, with a table of contents."""
    page = PAGES[name]
    sections = list(_sections(name, contents))
    listed = "\n".join(f"- [{title}](#{anchor(title)})" for title, _ in sections)
    made = "Made by `make results` from the files beside it; see [all questions](../RESULTS.md)."
    parts = [f"# {page.title}", f"{made} {page.about}", listed]
    for title, body in sections:
        parts += [f"## {title}", *body]
    return "\n\n".join(parts) + "\n"


def anchor(title: str) -> str:
    """Where a heading is linked to, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _sections(name: str, contents: Contents) -> Iterator[tuple[str, list[str]]]:
    if name == "removals" and (bench := development(contents)):
        yield "All removals of the development bench", [*bench]
    if name == "removals":
        yield from test_bench(contents)
        yield from ((title, make(contents[file])) for file, (title, make) in ASAP.items() if file in contents)
    for file, content in contents.items():
        if file in PLAIN:
            continue
        families = families_of(content["rows"])
        if name == "attacks" and not families and "family" in content["rows"][0]:
            yield f"Attacks: {content['recipe']}", attacks(content)
        for family in families:
            if page_of(family) == name:
                yield f"{family.title}: {content['recipe']}", of_family(family, content)
    for file, title in PAGES[name].plain.items():
        if file in contents:
            yield title, SECTIONS.get(file, as_they_are)(contents[file])


def test_bench(contents: Contents) -> Iterator[tuple[str, list[str]]]:
    """Restore against the others: on each grid of the test bench, and on all of them."""
    grids = [content for file, content in contents.items() if file.startswith(BENCH)]
    for of, some in [("all grids", grids), *((str(grid["recipe"]), [grid]) for grid in grids)]:
        if body := against(some):
            yield f"Restore against the others on the test bench: {of}", body


def with_figure(content: Mapping[str, Any]) -> list[str]:
    """A table, and below it the figure that is drawn of the same file."""
    return [*as_they_are(content), f"![The figure of this table]({content['recipe']}.svg)"]


def as_they_are(content: Mapping[str, Any]) -> list[str]:
    """A table with the fields of the rows as they are."""
    columns = list(dict.fromkeys(key for row in content["rows"] for key in row))
    head = [re.sub("_(dB|%)$", r", \1", column).replace("_", " ") for column in columns]
    lines = [[plain(row.get(column)) for column in columns] for row in content["rows"]]
    host = content["host"]
    place = f"{host['cores']} cores of {host['processor']}, torch {host['torch']}."
    return [f"{content.get('about') or ''} {place}".strip(), table(head, lines)]


SECTIONS = {"canaries": canaries, "courses": courses, "why_restore": with_figure, "clean_label": with_figure}
"""What makes a section of a plain file that is not its table alone."""
ASAP = {
    "asap": ("The main table of ASAP, on our data", main_table),
    "asap_choices": ("ASAP by the sound of the trigger and the poisoning rate", choices),
    "asap_thresholds": ("ASAP by its threshold", choices),
    "asap_enhancers": ("ASAP with another enhancer", choices),
}
"""Grids that repeat tables of a paper: the title of a section, and what makes it."""


def attacks(content: Mapping[str, Any]) -> list[str]:
    """A line an attack and model: what it plants at each poisoning rate, and how much it changes a clip."""
    rows = measured(content["rows"])
    rates = sorted({row["poisoning_rate"] for row in poisoned(rows)})
    head = ["model", "attack", "seeds", *(f"clean model: {measure.name}" for measure in (ACC, ASR, RA))]
    for rate in rates:
        head += [f"{100 * rate:g} %: {ACC.name}", ASR.name, RA.name, "of the class"]
    head += [measure.heading for measure in OF_TRIGGERS]
    lines = []
    for data, model, attack in distinct(rows, "data", "model", "attack"):
        mine = where(rows, data=data, model=model, attack=attack)
        at = {rate: where(mine, poisoning_rate=rate) for rate in (0.0, *rates)}
        line = [model_of(mine[0], rows), attack, seeds_of(mine)]
        line += [_planted(at[0.0], measure) for measure in (ACC, ASR, RA)]
        for rate in rates:
            share = [row["poisoned_share_of_target"] for row in at[rate]]
            line += [_planted(at[rate], measure) for measure in (ACC, ASR, RA)]
            line.append(ACC.said(sum(share) / len(share)) if share else "")
        lines.append([*line, *(shown(at[0.0] or mine, measure) for measure in OF_TRIGGERS)])
    about = (
        f"{_about(content, rows)} Means over the seeds; behind ASR their range where there are several. "
        f"{', '.join(measure.name for measure in OF_TRIGGERS)} compare triggered with clean test clips."
    )
    return [about, table(head, lines)]


def _planted(rows: Rows, measure: Measure) -> str:
    return shown(rows, measure) + (spread(rows, measure) if measure is ASR else "")


def of_family(family: Family, content: Mapping[str, Any]) -> list[str]:
    """The methods of one family in one grid: a line each, then all rows, then what failed."""
    every = [row for row in content["rows"] if row["family"] in {family.name, BARE}]
    rows = measured(every)
    parts = [f"{_about(content, rows)} {_protocol(content, rows)} {measured_again(content)}".strip()]
    parts += [legend(family), overview(family, rows)]
    details = all_rows(family, rows)
    parts.append(f"<details><summary>All rows</summary>\n\n{details}\n\n</details>")
    if failed := [row for row in every if row.get("error")]:
        said = (f"{row['attack']}, {method_of(row)}: {row['error']}" for row in failed)
        parts.append(f"Failed: {'; '.join(said)}")
    return parts


def measured_again(content: Mapping[str, Any]) -> str:
    """How many rows were measured again since, and whether their figures are the same; empty if none was."""
    about = content.get("measured_again")
    if about is None:
        return ""
    same = "all figures equal" if about["equal"] == about["rows"] else f"{about['equal']} with equal figures"
    return (
        f"{about['rows']} of {len(content['rows'])} rows were measured again on {about['date']} "
        f"(commit {about['code']}): {same}."
    )


def head_measures(family: Family) -> list[Measure]:
    """What a cell of an overview shows."""
    return [measure for measure in family.measures if measure not in {ACC, DER, TPR_AT_OWN, FPR_AT_OWN}]


def legend(family: Family) -> str:
    """What a cell of an overview is."""
    names = " / ".join(measure.name for measure in head_measures(family))
    meant = "; ".join(f"{measure.name}: {measure.about}" for measure in head_measures(family))
    return (
        f"A cell is {names}: means over the seeds, shares in percent, and in brackets the range of the first "
        f"where seeds differ by a point or more. A dash was not measured. {meant}."
    )


def overview(family: Family, rows: Rows) -> str:
    """A line a method, model and clean fraction; a column an attack and poisoning rate."""
    met = distinct(poisoned(rows), "attack", "poisoning_rate")
    several = len({rate for _, rate in met}) > 1
    names = [f"{attack}, {100 * rate:g} %" if several else attack for attack, rate in met]
    of_models = ACC in family.measures
    head = ["model", "method", "clean clips", "seeds", *names]
    scores = FPR_AT_OWN in family.measures
    of_clean = f"clean data: {FPR_AT_OWN.heading}" if scores else "clean models"
    head += ["ACC after", "ACC lost", "DER", "clean model: ACC lost"] if of_models else [of_clean]
    lines = []
    for line in _lines_of(rows if of_models else [row for row in rows if row["method_name"] != BARE]):
        planted, clean = poisoned(line), poisoned(line, wanted=False)
        cells = [model_of(line[0], rows), _name(line[0]), _share(line[0]), seeds_of(line)]
        for attack, rate in met:
            cells.append(short(where(planted, attack=attack, poisoning_rate=rate), head_measures(family)))
        if of_models:
            cells += [shown(planted, ACC), points(lost_acc(planted, rows)), shown(planted, DER)]
            cells.append(points(lost_acc(clean, rows)))
        else:
            cells.append(shown(clean, FPR_AT_OWN) if scores else short(clean, head_measures(family)))
        lines.append(cells)
    return table(head, lines)


def _lines_of(rows: Rows) -> list[list[Row]]:
    """The rows of each model, method and clean fraction, suspects first."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = row["data"], row["model"], method_of(row), row["clean_fraction"]
        found.setdefault(key, []).append(row)
    models = distinct(rows, "data", "model")
    return [found[key] for key in sorted(found, key=lambda key: (models.index(key[:2]), key[2] != BARE))]


def all_rows(family: Family, rows: Rows) -> str:
    """A line for all seeds of a cell, with every measure of the family."""
    of_models = ACC in family.measures
    kept = [row for row in rows if of_models or row["method_name"] != BARE]
    named = [*OF_MODELS, *OF_ADVERSARIES] if of_models else [*family.measures]
    head = ["model", "attack", "poisoning rate", "method", "clean clips", "seeds"]
    lines = []
    for group in by_seed(kept):
        row = group[0]
        if not any(values(group, measure) for measure in named):
            continue
        rate = f"{100 * row['poisoning_rate']:g} %"
        if row["poisoned_clips"]:
            share = 100 * row["poisoned_share_of_target"]
            rate += f" ({row['poisoned_clips']} clips, {share:.0f} % of their class)"
        cells = [model_of(row, rows), row["attack"], rate, _name(row), _share(row), str(len(group))]
        lines.append([*cells, *(interval(group, measure) for measure in named)])
    return table([*head, *(measure.heading for measure in named)], lines)


def _name(row: Row) -> str:
    return "*none*" if row["method_name"] == BARE else method_of(row)


def _share(row: Row) -> str:
    return "" if row["clean_fraction"] is None else f"{100 * row['clean_fraction']:g} %"


def _about(content: Mapping[str, Any], rows: Rows) -> str:
    host = content["host"]
    on_gpu = content.get("machine", {}).get("device", "cpu") != "cpu"
    sets = (where(rows, data=data)[0] for (data,) in distinct(rows, "data"))
    clips = "; ".join(
        f"{first['data']}, {first['training_clips']:,} training and {first['test_clips']:,} test clips"
        for first in sets
    )
    return (
        f"{content.get('about', '')} {clips}; closesesame {content['version']}, torch {host['torch']} on "
        f"{host['gpu' if on_gpu else 'processor']}, {' and '.join(sorted(precisions(rows)))}."
    )


def _protocol(content: Mapping[str, Any], rows: Rows) -> str:
    """How rows of a grid were made, and what the defaults of their methods were chosen on."""
    about = content.get("protocol")
    if about is None:
        return ""
    source = {"validation": "speakers the suspect never heard", "train": "the suspect's training set"}
    length = {
        "published": "as long as its authors run it",
        "ours": f"for {about['steps']} batches of {about['batch_size']}",
    }
    lengths = ", and once more ".join(length[name] for name in about["budgets"])
    how = f"clean clips, where a method needs any, from {source[about['clean_from']]}"
    if any(row["clean_fraction"] for row in rows):  # there are removals
        how = (
            f"clean clips from {source[about['clean_from']]}, held out by speaker (by restore one by one); "
            f"each method {lengths}"
        )
    return f"Protocol {about['version']}: {how}. {content['tuned_on']}".strip()


def development_rows(contents: Contents) -> list[Row]:
    """Every removal that was measured on the development bench, each row once."""
    found = [content for name, content in contents.items() if name.startswith("removals_development")]
    return list({row["id"]: row for content in found for row in measured(content["rows"])}.values())


def development(contents: Contents) -> list[str]:
    """One table of all removals of the development bench, the highest mean RA first."""
    rows = development_rows(contents)
    if not rows:
        return []
    (family,) = families_of(rows)
    order = [BARE, *ranked(rows)]
    tuned = next(c["tuned_on"] for name, c in contents.items() if name.startswith("removals_development"))
    return [
        f"{legend(family)} {tuned}",
        overview(family, sorted(rows, key=lambda row: order.index(method_of(row)))),
    ]


def ranked(rows: Rows) -> list[str]:
    """Methods by RA, as a mean over what they were measured on; the highest first."""
    found = {name: [row for row in poisoned(rows) if method_of(row) == name] for name in map(method_of, rows)}
    return sorted(found.keys() - {BARE}, key=lambda name: (-(mean(found[name], RA) or 0), name))


def texts(contents: Contents) -> dict[str, str]:
    """All pages by name."""
    return {name: render(name, contents) for name in PAGES}


def mixed(rows: Sequence[Row]) -> str:
    """An attack of which rows with the same data, model and seed differ in RA of the reference, if any."""
    known: dict[tuple[Any, ...], float] = {}
    for row in rows:
        if row.get("ra_reference") is not None:
            key = row["data"], row["model"], row["attack"], row["seed"]
            if known.setdefault(key, row["ra_reference"]) != row["ra_reference"]:
                return str(row["attack"])
    return ""
