"""Everything of this folder that can be run.

python -m benchmarks                    what there is
python -m benchmarks NAME [WORDS]       run it
python -m benchmarks NAME --help        its options
"""

import ast
import importlib
import sys
from pathlib import Path

from closesesame.core.memory import keep_freed

HERE = Path(__file__).parent


def entries() -> dict[str, Path]:
    """Every file with a `main`, by the name to type."""
    found = {path.stem: path for path in (HERE / "measure").glob("*.py")}
    found["render"] = HERE / "render" / "__init__.py"
    with_main = {name for name, path in found.items() if "\ndef main(" in path.read_text(encoding="utf-8")}
    return {name: found[name] for name in sorted(with_main)}


def main() -> int:
    """Lists what there is, or runs one of it with the words behind its name."""
    known = entries()
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        for name, path in known.items():
            print(f"{name:10} {(ast.get_docstring(ast.parse(path.read_text())) or '').splitlines()[0]}")
        return int(len(sys.argv) > 1)
    keep_freed()
    name = sys.argv.pop(1)
    where = known[name].relative_to(HERE.parent).with_suffix("")
    module = importlib.import_module(".".join(where.parts).removesuffix(".__init__"))
    return int(module.main() or 0)


if __name__ == "__main__":
    sys.exit(main())
