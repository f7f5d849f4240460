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
from dtr1_jax.twin.construct import Request, dumps_request, read_request
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.ids import IdReader, named_thought
from dtr1_jax.twin.schema import Answer, Fault, Twin
from dtr1_jax.twin.text import dumps_answer, dumps_twin

PARTS = {  # constructor -> the parts of the text, in order
    "policy": ("twin", "think", "answer"),
    "specialists": ("construct", "twin", "think", "answer"),
    "given": ("think", "answer"),  # the data set gives the twin, in the prompt
}

CLOSING = "</construct>"  # behind it the host puts the twin of the constructor "specialists" into the completion

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
      constructor: who fills the twin, a key of PARTS.
      request: the sound request to the specialists; None if there is none.
    """

    text: str
    parts: dict[str, str]
    twin: Twin | None
    thought: str | None
    answer: Answer | None
    faults: tuple[Fault, ...]
    constructor: str = "policy"
    request: Request | None = None

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
      given_twin: the twin that the example brings, where the constructor is "given"; the twin that the host put into
        the completion, where it is "specialists" (None = it put none in). Any other twin is a fault there.

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

    request = None
    value = _decode(parts, "construct", faults)
    if value is not _ABSENT:
        request, construct_faults = read_request(value, canvas.frames)
        faults += construct_faults

    twin, ids = (given_twin if constructor == "given" else None), IdReader()
    if constructor == "given" and given_twin is None:
        faults.append(Fault("twin", "expected the example to bring a twin, got none"))
    value = _decode(parts, "twin", faults)
    if value is not _ABSENT:
        # The specialists may have looked at some of the frames only.
        frames = given_twin.frames if constructor == "specialists" and given_twin is not None else canvas.frames
        twin, twin_faults = schema.read_twin(value, size=canvas.size, limit=canvas.limit, frames=frames, ids=ids)
        faults += twin_faults
        if constructor == "specialists" and twin is not None and twin != given_twin:
            twin = None
            wrote = "expected the twin of the specialists behind the request, got one that the policy wrote"
            faults.append(Fault("twin", wrote))

    answer = None
    value = _decode(parts, "answer", faults)
    if value is not _ABSENT:
        if constructor == "given" and twin is not None:  # the prompt shows it, so the answer may have either form
            ids.labels = {item.id: item.label for item in twin.objects}
        answer, answer_faults = schema.read_answer(value, task=task, limit=canvas.limit, ids=ids)
        faults += answer_faults
    return Transcript(text, parts, twin, parts.get("think"), answer, tuple(faults), constructor, request)


def open_request(text: str, frames: tuple[int, ...] = ()) -> tuple[Request | None, str]:
    """Reads a completion that was sampled up to the end of its request, as the host does.

    Args:
      text: any string.
      frames: numbers of the frames that the policy saw, ascending; empty = a picture.

    Returns:
      (the request, the text behind "</construct>"). The request is None where `parse` would find a fault in this
      text: it is not closed, malformed, or not alone. It does not raise for any text.
    """
    head, closing, tail = text.partition(CLOSING)
    body = head.lstrip()
    opening = CLOSING.replace("/", "")
    if not closing or not body.startswith(opening) or _TAG.search(body, len(opening)) or not schema.encodable(head):
        return None, tail
    try:
        return read_request(strict_json.loads(body[len(opening) :]), frames)[0], tail
    except ValueError:
        return None, tail


def inserted_text(twin: Twin) -> str:
    """The twin between its tags on a line of its own, as the host puts it into a completion.

    Lines keep the tokens as a pretrained model knows them. Many tokenizers have "><" as one token: after a single ">"
    a model takes it that no tag follows, and ends (seen with Qwen2.5-Coder-0.5B). After a line break a tag is usual.
    """
    return f"<twin>{dumps_twin(twin)}</twin>\n"


def compose(twin: Twin, thought: str, answer: Answer, request: Request | None = None) -> str:
    """Writes a transcript. `parse` returns the same values where they are sound.

    If the twin has names as ids, so has the answer. With a request it is a transcript of the constructor "specialists",
    with all frames of the twin as those that the policy saw; without one, of the constructor "policy".

    Raises:
      ValueError: the thought contains a tag of the transcript, or the answer does not have exactly one field set.
    """
    check_thought(thought)
    written = f"<twin>{dumps_twin(twin)}</twin>"
    if request is not None:
        written = written_request(request, twin.frames) + inserted_text(twin)
    return written + dumps_reply(twin, thought, answer)


def check_thought(thought: str) -> None:
    """Raises ValueError if the thought contains a tag of the transcript."""
    tag = _TAG.search(thought)
    if tag:
        raise ValueError(f"thought: expected words without the tags of a transcript, got {tag[0]} in {thought[:80]!r}")


def written_request(request: Request, frames: tuple[int, ...] = ()) -> str:
    """The request between its tags on a line of its own, as a policy writes it that saw these frames."""
    return f"<construct>{dumps_request(request, frames)}{CLOSING}\n"


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
