"""What a report tests, in the words of those who file it: MITRE ATLAS 5.6 and NIST AI 100-2 E2025.

The names and numbers are those of the two documents: ATLAS data 5.6.0 of May 2026, and "Adversarial Machine
Learning: A Taxonomy and Terminology of Attacks and Mitigations", 2025, section 2.3.3.
"""

from dataclasses import dataclass

from closesesame.evaluation import Exam


@dataclass(frozen=True)
class Entry:
    """One entry of a catalogue: its number and its name."""

    id: str
    name: str

    def __str__(self) -> str:
        return f"{self.id} {self.name}"


POISON_MODEL = Entry("AML.T0018.000", "Poison AI Model")
POISON_DATA = Entry("AML.T0020", "Poison Training Data")
INSERT_TRIGGER = Entry("AML.T0043.004", "Insert Backdoor Trigger")
VALIDATE = Entry("AML.M0008", "Validate AI Model")
HARDEN = Entry("AML.M0003", "Model Hardening")
BACKDOOR = Entry("NISTAML.023", "Backdoor Poisoning")
CLEAN_LABEL = Entry("NISTAML.021", "Clean-label Backdoor")
ATLAS, NIST = "MITRE ATLAS", "NIST AI 100-2"


def standards_of(exam: Exam, *, repaired: bool) -> dict[str, tuple[Entry, ...]]:
    """The entries that a measurement is about, by catalogue.

    Args:
        exam: without a trigger the model is validated, and no attack is tested.
        repaired: whether repaired models are measured too.
    """
    found = {ATLAS: (VALIDATE, *([HARDEN] if repaired else []))}
    if exam.trigger is None:
        return found
    clean_label = exam.trigger.attack.label_mode == "clean_label"
    return {
        ATLAS: (POISON_MODEL, POISON_DATA, INSERT_TRIGGER, *found[ATLAS]),
        NIST: (CLEAN_LABEL if clean_label else BACKDOOR,),
    }
