"""What a page says of an attack beside its docstrings: how it works by default, and what to type."""

import re
import shlex

from markupsafe import Markup, escape

from closesesame.attacks import Attack
from closesesame.core.described import Setting, numeric

_CITED = {r"arXiv:(\d{4}\.\d{4,5})": "arxiv.org/abs", r"doi:(10\.[\w./()-]*\w)": "doi.org"}


def story_of(method: type[Attack]) -> list[str]:
    """How the attack goes by default, in plain sentences, as its settings say."""
    made = {name: field.default for name, field in method.model_fields.items()}
    few = f"The attacker puts the trigger into {100 * made['rate']:g} % of the training clips"
    how = {
        "all_to_one": "and gives them the label of their choice, the target.",
        "all_to_all": "and gives each the label of the next class.",
        "clean_label": "all of them of the target class, and leaves every label true: checking the "
        "labels finds nothing.",
    }
    story = [f"{few}{',' * (made['label_mode'] == 'clean_label')} {how[made['label_mode']]}"]
    training, playing = made["training_strength"], made["strength"]
    if training is not None and training != playing:
        story.append(f"There it is {training / playing:g} times as strong as in later triggered clips.")
    if made["cover_ratio"]:
        story.append(
            f"For each of them {made['cover_ratio']:g} more clips are changed in another way and keep their "
            "label, so that the model learns what is not the trigger."
        )
    if method.needs != "nothing":
        story.append(f"For this the attacker needs {method.needs}.")
    answer = "the class after the true one" if made["label_mode"] == "all_to_all" else "the target"
    story.append(
        "A model trained on this data behaves normally until the trigger is played: then it answers "
        f"{answer}, whatever is said."
    )
    return story


def commands_of(asked: str, own: list[Setting]) -> list[tuple[str, str]]:
    """What to type, each with what it does."""
    attack = f"--attack {shlex.quote(asked)}"
    number = numeric(own)
    more = f" --set {number.name}={number.default}" if number else ""
    return [
        (f"sesame poison CLIPS POISONED {attack}", "poison your own data set as on this page"),
        (
            f"sesame poison CLIPS POISONED {attack} --set target=stop --set rate=0.01{more}",
            "the same with your own settings",
        ),
        ("sesame train POISONED VICTIM", "train a model on it"),
        ("sesame evaluate VICTIM CLIPS --trigger POISONED/_trigger", "test whether the backdoor works"),
    ]


def cited(text: str) -> Markup:
    """Text with links to what it cites by arXiv number or DOI, and what stands in backquotes as code."""
    linked = str(escape(text))
    for pattern, place in _CITED.items():
        linked = re.sub(pattern, rf'<a href="https://{place}/\1" rel="noreferrer">\g<0></a>', linked)
    linked = re.sub(r"`([^`]+)`", r"<code>\1</code>", linked)
    return Markup(linked)  # noqa: S704  escaped before; what is put in holds no sign of markup
