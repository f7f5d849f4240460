"""Worked examples: earlier turns of the chat, from which a policy that never saw the format can copy it.

For the constructor "given", whose turns are words alone. They are made of twins and answers, as transcripts are, and
are short: every query pays for them.
"""

from __future__ import annotations

from collections.abc import Callable

from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.twin.text import dumps_answer

PETS = Twin((80, 60), (Object(1, "dog", (0, 5, 4, 9)), Object(2, "cat", (6, 1, 9, 9))))
STREET = Twin((60, 80), (Object(1, "car", (1, 4, 4, 7)), Object(2, "tree", (5, 0, 9, 8))))

# twin, query, thought, answer. Thoughts are as short as they can be, and no answer is empty: a small policy copies what
# stands there, and after an example with an empty answer SmolLM2-135M answered every query so
_FOUND = (
    (PETS, "Which pet takes up the most of the picture?", "cat 2.", Answer(objects=(2,))),
    (STREET, "Find every thing that has wheels.", "car 1.", Answer(objects=(1,))),
)
_SAID = ((PETS, "Which pet is to the right?", "pet: dog 1, cat 2. rightmost: 2.", Answer(text="cat")),)
_TOLD = ((STREET, "What is there to see?", "car 1, tree 2. right of 1: 2.", Answer(text="A tree right of a car.")),)
EXAMPLES = {"segmentation": _FOUND, "grounding": _FOUND, "vqa": _SAID, "summary": _TOLD}


def turns(task: str, ask: Callable[[Twin, str], str]) -> list[dict[str, str]]:
    """The messages of the chat before the query: for each example the user's, and the policy's.

    Args:
      task: one of types.TASKS.
      ask: (twin, query) -> the user's text, as it is written for the query itself.
    """
    messages = []
    for twin, query, thought, answer in EXAMPLES[task]:
        reply = f"<think>{thought}</think><answer>{dumps_answer(answer)}</answer>"
        messages += [{"role": "user", "content": ask(twin, query)}, {"role": "assistant", "content": reply}]
    return messages
