"""The command that shows the main job on embedded speech."""

from pathlib import Path

from closesesame.cli.app import command
from closesesame.cli.options import Force, Seed
from closesesame.cli.outputs import CLEAN_DATA_WARNING, as_typed, now
from closesesame.cli.printing import Answer
from closesesame.core.disk import Destination

from .report import answer_of


@command("demo")
def demo(out: Path = Path("closesesame-demo"), *, seed: Seed = 0, force: Force = False) -> Answer:
    """Poison embedded speech, train a model on it, attack it, repair it five ways, and write a report.

    Args:
        out: Folder for the models, the trigger and the page.

    Examples:
        sesame demo
        sesame demo DEMO --seed 1 --force
    """
    from closesesame.demo import PAGE, is_demo, run, save

    place = Destination(out, force=force, replaces=is_demo)
    made = run(seed, (CLEAN_DATA_WARNING,), made=now(), command=as_typed())
    place.write(lambda folder: save(made, folder))
    folder = out.resolve()
    return answer_of(made.page, page=str(folder / PAGE), folder=str(folder))
