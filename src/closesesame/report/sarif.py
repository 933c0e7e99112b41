"""A report as SARIF 2.1.0, the format that security tools and code hosts read: one result a model.

"Static Analysis Results Interchange Format (SARIF) Version 2.1.0", OASIS Standard, 2020.
"""

import os
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from closesesame.report.pages.comparison import Entry, Report
from closesesame.report.verdict import Status, Verdict

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
KINDS: dict[Status, tuple[str, str]] = {
    "works": ("fail", "error"),
    "errors": ("fail", "error"),
    "costly": ("fail", "warning"),
    "unjudged": ("review", "none"),
    "no_effect": ("pass", "none"),
    "unclear": ("open", "none"),
    "untested": ("open", "none"),
}
"""The kind and the level of a result; only what failed may have a level."""


def sarif_of(report: Report) -> dict[str, Any]:
    """The report for machines: a rule a kind of verdict, a result a model with its hash."""
    judged = [(entry, entry.verdict) for entry in report.entries if entry.verdict is not None]
    rules = {verdict.status: verdict.title for _, verdict in judged}
    tags = {"tags": list(report.standards)}
    driver = {
        "name": "closesesame",
        "version": report.version,
        "rules": [
            {"id": status, "shortDescription": {"text": title}, "properties": tags}
            for status, title in rules.items()
        ],
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": True, "commandLine": report.command}],
        "artifacts": [_artifact(entry) for entry, _ in judged],
        "results": [_result(number, entry, verdict) for number, (entry, verdict) in enumerate(judged)],
        "properties": {"untested": list(report.untested)},
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _artifact(entry: Entry) -> dict[str, Any]:
    place = {"uri": _uri(entry)}
    return {"location": place, "hashes": {"sha-256": entry.sha256}} if entry.sha256 else {"location": place}


def _result(number: int, entry: Entry, verdict: Verdict) -> dict[str, Any]:
    kind, level = KINDS[verdict.status]
    place = {"uri": _uri(entry), "index": number}
    return {
        "ruleId": verdict.status,
        "kind": kind,
        "level": level,
        "message": {"text": f"{entry.name}: {verdict}"},
        "locations": [{"physicalLocation": {"artifactLocation": place}}],
    }


def _uri(entry: Entry) -> str:
    """Where a model is, as a URI reference of RFC 3986: other characters than its own are percent-encoded."""
    path = PurePath(entry.source or entry.name)
    return path.as_uri() if path.is_absolute() else quote(os.fsencode(path.as_posix()))
