"""Compares rows of a fresh grid with those of a result file, and writes into its head how many are equal.

python -m benchmarks again RESULT FRESH --code COMMIT

FRESH is the store of a grid, or a file that `sesame bench export` wrote.
"""

import argparse
import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closesesame.bench.results import result_of, write_result
from closesesame.core.errors import DataError
from closesesame.evaluation.measures import MEASURES, OF_COST

PLACE = ("data", "model", "attack", "poisoning_rate", "family", "method", "seed")
COMPARED = (*(key for key, measure in MEASURES.items() if measure not in OF_COST), "held_out_acc")
"""Every figure of a row that the machine's speed and load do not decide."""

Row = Mapping[str, Any]


def key_of(row: Row) -> tuple[Any, ...]:
    """What a row is of; untrusted examples are no clean fraction, whatever an old file says."""
    fraction = None if row["clean_from"] == "untrusted" else row["clean_fraction"]
    return *(row[name] for name in PLACE), fraction


def compare(known: list[Row], fresh: list[Row]) -> tuple[int, list[str]]:
    """How many fresh rows are in a result file, and the figures that differ, a line each.

    Raises:
        DataError: if none is.
    """
    old = {key_of(row): row for row in known}
    pairs = [(old[key_of(row)], row) for row in fresh if key_of(row) in old]
    if not pairs:
        raise DataError("no fresh row is of a model, attack, method and seed of the result file")
    found = []
    for before, now in pairs:
        different = [
            f"{name} {before.get(name)} -> {now.get(name)}"
            for name in COMPARED
            if before.get(name) != now.get(name)
        ]
        if different:
            found.append(f"{', '.join(map(str, key_of(now)))}: {', '.join(different)}")
    return len(pairs), found


def main() -> int:
    """Writes the field `measured_again`; 1 if a figure differs."""
    parser = argparse.ArgumentParser(prog="benchmarks again")
    parser.add_argument("result", type=Path, help="file of benchmarks/results")
    parser.add_argument("fresh", type=Path, help="store of a grid, or an exported file")
    parser.add_argument("--code", required=True, help="the commit that the fresh rows were computed with")
    asked = parser.parse_args()
    content = json.loads(asked.result.read_text(encoding="utf-8"))
    fresh = result_of(asked.fresh) if asked.fresh.is_dir() else json.loads(asked.fresh.read_text("utf-8"))
    count, found = compare(content["rows"], fresh["rows"])
    rows = content.pop("rows")
    content["measured_again"] = {
        "rows": count,
        "equal": count - len(found),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "code": asked.code,
    }
    write_result(content | {"rows": rows}, asked.result)
    for line in found:
        print(line)
    print(f"{count} of {len(rows)} rows were measured again, {count - len(found)} have equal figures")
    return int(bool(found))
