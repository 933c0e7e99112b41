"""What a report says to security teams: numbers of catalogues, and a SARIF file beside the page."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from closesesame.attacks import SIG, BadNets
from closesesame.data import Splits
from closesesame.evaluation import Exam
from closesesame.models import Classifier, save_model
from closesesame.models.files import sha256_of
from closesesame.report.from_models import Identity, compare
from closesesame.report.sarif import KINDS, sarif_of
from closesesame.report.standards import standards_of
from closesesame.report.verdict import Status, Verdict
from tests.commands import Sesame

VALIDATE, HARDEN = "AML.M0008 Validate AI Model", "AML.M0003 Model Hardening"
ATTACK = [
    "AML.T0018.000 Poison AI Model",
    "AML.T0020 Poison Training Data",
    "AML.T0043.004 Insert Backdoor Trigger",
]


def named(exam: Exam, *, repaired: bool) -> dict[str, list[str]]:
    return {name: list(map(str, found)) for name, found in standards_of(exam, repaired=repaired).items()}


def test_the_catalogues_say_what_was_tested(tones: Splits) -> None:
    assert named(Exam(tones.test), repaired=False) == {"MITRE ATLAS": [VALIDATE]}
    dirty = Exam(tones.test, BadNets(target="top", duration_s=0.5).trigger(tones.train, 0))
    assert named(dirty, repaired=True) == {
        "MITRE ATLAS": [*ATTACK, VALIDATE, HARDEN],
        "NIST AI 100-2": ["NISTAML.023 Backdoor Poisoning"],
    }
    clean = Exam(tones.test, SIG(target="top", label_mode="clean_label").trigger(tones.train, 0))
    assert named(clean, repaired=False)["NIST AI 100-2"] == ["NISTAML.021 Clean-label Backdoor"]


def test_the_page_lists_them(tones: Splits, clean_model: Classifier) -> None:
    exam = Exam(tones.test, BadNets(target="top", duration_s=0.5).trigger(tones.train, 0))
    page = compare(exam=exam, before=("m", clean_model), repaired={}, title="t", sounds=0)
    assert page.facts["MITRE ATLAS"] == ", ".join([*ATTACK, VALIDATE])
    assert page.standards == (*ATTACK, VALIDATE, "NISTAML.023 Backdoor Poisoning")


def test_every_verdict_has_a_kind_and_only_failures_have_a_level() -> None:
    assert set(KINDS) == set(get_args(Status))
    expected = {
        ("fail", "error"): {"works", "errors"},
        ("fail", "warning"): {"costly"},
        ("review", "none"): {"unjudged"},
        ("pass", "none"): {"no_effect"},
        ("open", "none"): {"unclear", "untested"},
    }
    found = {pair: {status for status, own in KINDS.items() if own == pair} for pair in KINDS.values()}
    assert found == expected


def test_a_result_a_model_with_its_hash(
    tones: Splits, model: Path, clips: Path, sesame: Sesame, tmp_path: Path
) -> None:
    BadNets(target="top", duration_s=0.5).trigger(tones.train, 0).save(tmp_path / "trigger")
    words = ("report", clips, tmp_path / "page.html", "--before", model, "--trigger", tmp_path / "trigger")
    found = sesame.json(*words, "--sarif", tmp_path / "page.sarif")
    assert found["sarif"] == str(tmp_path / "page.sarif")
    log = json.loads((tmp_path / "page.sarif").read_text())
    assert (log["version"], len(log["runs"])) == ("2.1.0", 1)
    (run,) = log["runs"]
    (rule,) = run["tool"]["driver"]["rules"]
    (result,) = run["results"]
    verdict = found["entries"]["model"]["verdict"]
    assert result["ruleId"] == rule["id"] == verdict["status"]
    assert (result["kind"], result["level"]) == KINDS[verdict["status"]]
    assert result["message"]["text"] == f"model: {verdict['title']}: {verdict['words']}"
    assert ATTACK[0] in rule["properties"]["tags"]
    (artifact,) = run["artifacts"]
    assert artifact["hashes"] == {"sha-256": sha256_of(model)}
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": model.as_uri(), "index": 0}
    assert run["invocations"][0]["commandLine"].startswith("sesame report ")
    assert any("Any trigger other than the one above" in one for one in run["properties"]["untested"])
    assert "--force" in sesame.fails(*words, "--sarif", tmp_path / "page.sarif")


@pytest.mark.parametrize("repaired", [True, False])
def test_repaired_models_are_results_too(tones: Splits, clean_model: Classifier, repaired: bool) -> None:
    models = {"r": clean_model} if repaired else {}
    page = compare(exam=Exam(tones.test), before=("m", clean_model), repaired=models, title="t")
    (run,) = sarif_of(page)["runs"]
    assert [one["message"]["text"].split(":")[0] for one in run["results"]] == ["m", *models]
    assert {(one["kind"], one["level"]) for one in run["results"]} == {("open", "none")}
    assert (HARDEN in page.standards) is repaired


def test_each_result_has_the_kind_the_place_and_the_hash_of_its_own_model(
    tones: Splits, clean_model: Classifier
) -> None:
    places = {"m": "my models/r\u00e9#1", "r": "/tmp/a b", "s": "c:d?100%\udcff"}
    models = dict.fromkeys(("r", "s"), clean_model)
    known = {name: Identity(path=place, sha256=f"of {name}") for name, place in places.items()}
    page = compare(
        exam=Exam(tones.test),
        before=("m", clean_model),
        repaired=models,
        title="t",
        identities=known,
        sounds=0,
    )
    statuses: tuple[Status, ...] = ("works", "unjudged", "no_effect")
    entries = tuple(
        replace(entry, verdict=Verdict(status, f"title of {status}", "words"))
        for entry, status in zip(page.entries, statuses, strict=True)
    )
    (run,) = sarif_of(replace(page, entries=entries))["runs"]
    encoded = ["my%20models/r%C3%A9%231", "file:///tmp/a%20b", "c%3Ad%3F100%25%FF"]
    artifacts = [
        {"location": {"uri": uri}, "hashes": {"sha-256": f"of {name}"}}
        for name, uri in zip(places, encoded, strict=True)
    ]
    assert run["artifacts"] == artifacts
    located = [one["locations"][0]["physicalLocation"]["artifactLocation"] for one in run["results"]]
    assert located == [{"uri": uri, "index": number} for number, uri in enumerate(encoded)]
    said = [(one["ruleId"], one["kind"], one["level"]) for one in run["results"]]
    assert said == [
        ("works", "fail", "error"),
        ("unjudged", "review", "none"),
        ("no_effect", "pass", "none"),
    ]
    assert [one["message"]["text"] for one in run["results"]] == [
        f"{name}: title of {status}: words" for name, status in zip(places, statuses, strict=True)
    ]


def test_a_repaired_model_has_its_own_path_and_hash(
    clean_model: Classifier, model: Path, clips: Path, sesame: Sesame, tmp_path: Path
) -> None:
    other = deepcopy(clean_model)
    with torch.no_grad():
        next(iter(other.body.parameters())).mul_(0.9)
    after = save_model(other, tmp_path / "after")
    words = ("report", clips, tmp_path / "page.html", "--before", model, "--after", after)
    sesame(*words, "--sarif", tmp_path / "page.sarif")
    (run,) = json.loads((tmp_path / "page.sarif").read_text())["runs"]
    assert run["artifacts"] == [
        {"location": {"uri": path.as_uri()}, "hashes": {"sha-256": sha256_of(path)}}
        for path in (model, after)
    ]


@pytest.mark.parametrize("name", ["page.html", "page.html/x.sarif", "."])
def test_the_page_and_the_sarif_file_are_two_files(
    model: Path, clips: Path, sesame: Sesame, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "new" / "page.html"
    for more in ((), ("--force",)):
        words = ("report", clips, out, "--before", model, "--sarif", out.parent / name, *more)
        assert "is or holds another output of the same command" in sesame.fails(*words)
    assert not out.exists()
