"""One completion and its named parts.

    <construct>{...}</construct> <twin>{...}</twin> <think>...</think> <answer>{...}</answer>

The parts depend on the constructor, which fills the twin (PARTS). A part is an opening tag, text without tags, and its
closing tag. The search for tags does not parse JSON, which keeps it simple and linear. A tag inside a JSON string
therefore counts as a tag, and `compose` escapes "<" in JSON.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from typing import Any

from dtr1_jax.twin import schema, strict_json
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.ids import IdReader, named_thought
from dtr1_jax.twin.schema import Answer, Fault, Twin
from dtr1_jax.twin.text import dumps_answer, dumps_twin

PARTS = {  # constructor -> the parts of the text, in order
    "policy": ("twin", "think", "answer"),
    "specialists": ("construct", "twin", "think", "answer"),
    "given": ("think", "answer"),  # the data set gives the twin, in the prompt
}

_TAG = re.compile("<(/?)(construct|twin|think|answer)>")


@dataclasses.dataclass(frozen=True)
class Transcript:
    """A completion, split into its parts.

    Attributes:
      text: the completion.
      parts: name -> text between its tags, for each part of the constructor that is closed; the first text where a part
        is repeated.
      twin: the twin, None if it is missing or has faults.
      thought: the unchanged text of <think>; None if it is missing.
      answer: the answer, None if it is missing or has faults.
      faults: the faults of the layout and of each part (schema.MAX_FAULTS of them at most); the place of a fault starts
        with "transcript" or the name of a part.
    """

    text: str
    parts: dict[str, str]
    twin: Twin | None
    thought: str | None
    answer: Answer | None
    faults: tuple[Fault, ...]

    @property
    def sound(self) -> bool:
        """Whether it has no fault; then twin, thought and answer are all present."""
        return not self.faults

    @property
    def reasoned(self) -> bool:
        """Whether there is a thought that is not blank."""
        return bool(self.thought and self.thought.strip())


def parse(
    text: str, *, task: str, canvas: Canvas, constructor: str = "policy", given_twin: Twin | None = None
) -> Transcript:
    """Splits a completion into its parts and lists their faults, in time linear in its length.

    Args:
      text: any string.
      task: one of types.TASKS; sets the form of the answer.
      canvas: the picture or video as the policy saw it; sets the size and the frame of the boxes.
      constructor: a key of PARTS.
      given_twin: the twin that the example brings, where the constructor is "given".

    Raises:
      ValueError: `task` or `constructor` is unknown. It does not raise for any `text`.
    """
    if task not in schema.FORMS:
        raise ValueError(f"task: expected one of {', '.join(schema.FORMS)}, got {task!r}")
    if constructor not in PARTS:
        raise ValueError(f"constructor: expected one of {', '.join(PARTS)}, got {constructor!r}")
    parts, faults = _split(text, PARTS[constructor])
    if not schema.encodable(text):
        faults.append(Fault("transcript", "expected text that UTF-8 can carry, got a lone surrogate"))

    construct = _decode(parts, "construct", faults)
    if construct is not _ABSENT and not isinstance(construct, dict):
        faults.append(Fault("construct", f"expected an object, got {schema.show(construct)}"))

    twin, ids = (given_twin if constructor == "given" else None), IdReader()
    if constructor == "given" and given_twin is None:
        faults.append(Fault("twin", "expected the example to bring a twin, got none"))
    value = _decode(parts, "twin", faults)
    if value is not _ABSENT:
        twin, twin_faults = schema.read_twin(value, size=canvas.size, limit=canvas.limit, frames=canvas.frames, ids=ids)
        faults += twin_faults

    answer = None
    value = _decode(parts, "answer", faults)
    if value is not _ABSENT:
        if constructor == "given" and twin is not None:  # the prompt shows it, so the answer may have either form
            ids.labels = {item.id: item.label for item in twin.objects}
        answer, answer_faults = schema.read_answer(value, task=task, limit=canvas.limit, ids=ids)
        faults += answer_faults
    return Transcript(text, parts, twin, parts.get("think"), answer, tuple(faults))


def compose(twin: Twin, thought: str, answer: Answer) -> str:
    """Writes a transcript of the constructor "policy". `parse` returns the same values where they are sound.

    If the twin has names as ids, so has the answer.

    Raises:
      ValueError: the thought contains a tag of the transcript, or the answer does not have exactly one field set.
    """
    tag = _TAG.search(thought)
    if tag:
        raise ValueError(f"thought: expected words without the tags of a transcript, got {tag[0]} in {thought[:80]!r}")
    return f"<twin>{dumps_twin(twin)}</twin>{dumps_reply(twin, thought, answer)}"


def thought_about(twin: Twin, thought: str) -> str:
    """A thought of the generated queries with ids in the form of the twin's (ids.named_thought)."""
    return named_thought(thought, {item.id: item.label for item in twin.objects}) if twin.named else thought


def dumps_reply(twin: Twin, thought: str, answer: Answer) -> str:
    """Writes the thought, and the answer with ids in the form of the twin's."""
    return f"<think>{thought}</think><answer>{dumps_answer(answer, twin)}</answer>"


_ABSENT = object()


def _decode(parts: dict[str, str], name: str, faults: list[Fault]) -> Any:
    """The JSON value of a part, or _ABSENT where the part is missing or is not JSON."""
    if name not in parts:
        return _ABSENT
    try:
        return strict_json.loads(parts[name])
    except ValueError as error:
        faults.append(Fault(name, str(error)))
        return _ABSENT


def _split(text: str, names: tuple[str, ...]) -> tuple[dict[str, str], list[Fault]]:
    """Finds the parts `names`, and the faults of their layout: at most a few for each name, however long the text."""
    tags = list(_TAG.finditer(text))
    order: list[str] = []  # names of closed parts, in the order of the text
    parts: dict[str, str] = {}
    stray: dict[str, list[int]] = collections.defaultdict(list)  # tag -> places of those without a partner
    outside: list[tuple[int, str]] = []  # place and beginning of each piece of text outside the parts
    start, unclosed, i = 0, False, 0  # unclosed: the text from `start` on follows an opening tag that is never closed
    while i <= len(tags):
        end = tags[i].start() if i < len(tags) else len(text)
        if not unclosed and text[start:end].strip():
            outside.append((start, text[start:end].strip()[:41]))
        if i == len(tags):
            break
        closing, name = tags[i].groups()
        if not closing and i + 1 < len(tags) and tags[i + 1].groups() == ("/", name):
            order.append(name)
            parts.setdefault(name, text[tags[i].end() : tags[i + 1].start()])
            i, unclosed = i + 1, False
        else:
            stray[tags[i][0]].append(end)
            unclosed = not closing
        start, i = tags[i].end(), i + 1

    faults = [_stray(tag, places) for tag, places in stray.items()]
    for name, count in collections.Counter(order).items():
        if name not in names:
            faults.append(Fault(name, f"expected only the parts {', '.join(names)}, got <{name}>"))
        elif count > 1:
            faults.append(Fault(name, f"expected <{name}> once, got it {count} times"))
    for name in names:
        if name not in parts and f"<{name}>" not in stray:
            faults.append(Fault(name, f"expected <{name}>...</{name}>, got none"))
    parts = {name: part for name, part in parts.items() if name in names}  # in the order of the text
    expected = [name for name in names if name in parts]
    if list(parts) != expected:
        faults.append(Fault("transcript", f"expected the order {', '.join(expected)}, got {', '.join(parts)}"))
    if outside:
        place, first = outside[0]
        message = f"expected nothing outside the parts, got from character {place} {schema.show(first)}"
        faults.append(Fault("transcript", message + (f" and {len(outside) - 1} more" if len(outside) > 1 else "")))
    return parts, faults


def _stray(tag: str, places: list[int]) -> Fault:
    name = tag.strip("</>")
    problem = f"no <{name}> directly before it" if tag[1] == "/" else f"no </{name}> before the next tag"
    more = f", and {len(places) - 1} more like it" if len(places) > 1 else ""
    return Fault(name, f"expected tags in pairs, got {tag} at character {places[0]} with {problem}{more}")
