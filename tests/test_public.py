"""The public names: all there, listed once, and free until they are used."""

import subprocess
import sys

import closesesame
from closesesame import testing
from closesesame.families import LISTED


def test_every_public_name_can_be_imported() -> None:
    assert len(closesesame.__all__) > 20
    for name in closesesame.__all__:
        assert getattr(closesesame, name) is not None


def test_every_contract_is_public_and_says_what_it_raises() -> None:
    checks = {f"check_{listed.registry.base.__module__.split('.')[1]}" for listed in LISTED}
    wanted = {name.replace("attacks", "attack").replace("models", "architecture") for name in checks}
    assert {name for name in testing.__all__ if name.startswith("check_")} == wanted
    for name in wanted:
        assert "ContractError" in (getattr(testing, name).__doc__ or "")
    assert all(getattr(testing, name).__doc__ for name in testing.__all__)


def test_neither_the_package_nor_its_command_line_waits_for_torch() -> None:
    code = "import sys, closesesame, closesesame.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
