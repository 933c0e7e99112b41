"""What a report says to security teams: numbers of catalogues, and a SARIF file beside the page."""

import json
from pathlib import Path
from typing import get_args

import pytest

from closesesame.attacks import SIG, BadNets
from closesesame.data import Splits
from closesesame.evaluation import Exam
from closesesame.models import Classifier
from closesesame.models.files import sha256_of
from closesesame.report.from_models import compare
from closesesame.report.sarif import KINDS, sarif_of
from closesesame.report.standards import standards_of
from closesesame.report.verdict import Status
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
    assert {status for status, (kind, _) in KINDS.items() if kind == "fail"} == {"works", "errors", "costly"}
    assert all((level == "none") is (kind != "fail") for kind, level in KINDS.values())


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
    assert place == {"uri": model.as_posix(), "index": 0}
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
