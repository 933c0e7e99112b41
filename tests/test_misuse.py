"""The Python API without the type checks of the tests: what is handed in wrongly is one sentence of ours."""

import json
import subprocess
import sys
from pathlib import Path


def test_what_is_handed_in_wrongly_is_one_sentence_and_what_is_meant_is_done(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("misuse.py"), tmp_path],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 30
    assert {name: said for name, said in found.items() if said} == {}
