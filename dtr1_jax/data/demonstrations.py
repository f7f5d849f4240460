"""What the cold start imitates: the oracle's transcript of an example, and exercises over a twin given in words."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np

from dtr1_jax import types
from dtr1_jax.data import rotary_positions
from dtr1_jax.data.chat import apply_template
from dtr1_jax.data.instructions import query_line, twin_block
from dtr1_jax.data.prompts import PromptError, Style, prompt_fields
from dtr1_jax.twin import program_steps, programs, things, transcript
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.schema import Answer, Twin
from dtr1_jax.twin.text import from_scene


def oracle(
    example: types.Example, canvas: Canvas, reasons: bool = True, by_id: bool = False, named: bool = False
) -> str:
    """Writes the transcript of a flawless policy: the scene's twin, the reasoning and the answer.

    Args:
      example: has an annotated scene and an answer.
      canvas: the picture or video as the policy sees it.
      reasons: whether the thought is written; else it is empty.
      by_id: grounding in a picture is answered by ids instead of boxes.
      named: whether ids are names.

    An example that brings no thought gets the steps of its program, if these lead to the answer. Without them, one that
    points at objects gets the simplest thought: the labels and ids of its answer.
    The answer is text for vqa and summary (the first of the target's references), boxes for grounding in a picture
    unless `by_id`, and ids elsewhere. Grounding in a video has ids, since a box would be about one frame only.

    Raises PromptError if the example has no annotated scene with an answer.
    """
    if not example.scene or (example.answer_ids is None and not example.target.references):
        raise PromptError(f"{example.uid}: no annotated scene with an answer, so there is nothing to imitate")
    twin = from_scene(example.scene, canvas, named)
    return transcript.compose(twin, *reply_parts(example, twin, reasons, by_id))


def reply_parts(example: types.Example, twin: Twin, reasons: bool, by_id: bool) -> tuple[str, Answer]:
    """(thought, answer) of a flawless policy that has this twin; the arguments are those of `oracle`.

    Raises PromptError if there is no answer to imitate, or the thought contains a tag of the transcript.
    """
    thought = _thought(example, twin) if reasons else ""
    try:
        transcript.check_thought(thought)
    except ValueError as error:
        raise PromptError(f"{example.uid}: {error}") from None
    return thought, _answer(example, twin, by_id)


def given_reply(example: types.Example, twin: Twin, reasons: bool) -> str:
    """Thought and answer of a flawless policy whose prompt shows `twin`; answers that point at objects have their ids.

    Raises PromptError if there is nothing to imitate, or the twin was cut and lacks an object of the answer.
    """
    shown = {item.id for item in twin.objects}
    missing = set(example.answer_ids or ()) - shown
    if missing:
        raise PromptError(
            f"{example.uid}: {len(missing)} objects of the answer are not in the twin that the prompt has room for; "
            "raise policy.prompt_tokens"
        )
    seen = dataclasses.replace(example, scene=[item for item in example.scene if item.id in shown])
    return transcript.dumps_reply(twin, *reply_parts(seen, twin, reasons, by_id=True))


def _thought(example: types.Example, twin: Twin) -> str:
    if example.thought:
        return transcript.thought_about(twin, example.thought)
    if example.program and example.scene:
        seen = things.things_of_scene(example.scene)
        result = programs.execute(example.program, seen)
        right = {*example.target.references} & {*result.texts} if example.answer_ids is None else (
            set(result.ids) == set(example.answer_ids)
        )  # fmt: skip
        if result.executable and right:
            return transcript.thought_about(twin, program_steps.steps(example.program, seen))
    if example.answer_ids is None:
        return ""
    by_label: dict[str, list[str]] = {}
    for instance in example.scene:
        if instance.id in example.answer_ids:
            by_label.setdefault(instance.label, []).append(str(instance.id))
    steps = ", ".join(f"{label} {','.join(ids)}" for label, ids in by_label.items()) + "." if by_label else "none."
    return transcript.thought_about(twin, steps)


def _answer(example: types.Example, twin: Twin, by_id: bool) -> Answer:
    if example.task not in types.POINTING:
        if not example.target.references:
            raise PromptError(f"{example.uid}: no answer in words for task {example.task!r}: nothing to imitate")
        return Answer(text=example.target.references[0])
    if example.answer_ids is None:
        hidden = example.hidden_objects
        advice = f"; {hidden} objects of the picture are left out: raise data.max_objects" if hidden else ""
        raise PromptError(
            f"{example.uid}: no objects as an answer for task {example.task!r}: nothing to imitate{advice}"
        )
    if example.task == "grounding" and not twin.frames and not by_id:
        return Answer(boxes=tuple(item.box for item in twin.objects if item.id in example.answer_ids))
    return Answer(objects=tuple(example.answer_ids))


def exercise(
    twin: Twin,
    queries: Sequence[tuple[str, str, Answer]],
    style: Style,
    length: int,
    count: int,
    drills: int = 0,
) -> tuple[dict, np.ndarray, np.ndarray, np.ndarray]:
    """Tokens of several queries about one twin, which the prompt shows in words in place of a picture.

    The twin comes before the queries, so that they share it as completions share a prompt.

    Args:
      twin: the twin.
      queries: (text, thought, answer); the first `count` that fit into `length` tokens are taken.
      style: gives the tokenizer and the length of the prompt.
      length: S, tokens to which each query with its thought and answer is padded.
      count: number of queries in the exercise.
      drills: number of queries at the start that are drills; their words are random, so they cannot be learnt.

    Returns:
      A tuple:
        the fields of types.Prompt without the batch axis, up to the end of the twin;
        int32[count, S], each query's text, thought, answer and end token;
        bool[count, S], True at these tokens;
        bool[count, S], True at those after "<think>"; in drills only at ids and at the token after each id.

    Raises PromptError if the twin has more than `style.length` tokens, or too few queries fit into `length`.
    """
    mark = "\N{OBJECT REPLACEMENT CHARACTER}"  # stands for the query, so that the chat can be cut there
    before, after = apply_template(twin_block(twin) + mark, (), style.tokenizer).split(mark)
    ids = style.tokenizer.encode(before)
    if len(ids) > style.length:
        raise PromptError(f"the twin has {len(ids)} tokens, more than policy.prompt_tokens = {style.length}")
    position, following = rotary_positions.positions([len(ids)])
    fields = prompt_fields(ids, position, np.full(len(ids), -1, np.int32), following, style)
    rows = []
    for query, thought, answer in queries:
        line = query_line(query, style.words, answer.text is not None)
        text = f"{line}{after}{transcript.dumps_reply(twin, transcript.thought_about(twin, thought), answer)}"
        with contextlib.suppress(PromptError):  # too long: the next query takes its place
            rows.append(encode_transcript(text, style, length))
        if len(rows) == count:
            break
    if len(rows) < count:
        raise PromptError(f"expected {count} queries of less than {length} tokens with their answers, got {len(rows)}")
    token, mask, reason = (np.concatenate(part) for part in zip(*rows))
    is_id = style.tokenizer.tokens_like(r"\d+,?|none")[token[:drills]]
    reason[:drills] &= is_id | np.roll(is_id, 1, axis=-1)
    return fields, token, mask, reason


def encode_transcript(text: str, style: Style, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Encodes a transcript and its end token, padded to S = `length` tokens.

    Returns:
      (int32[1, S] token ids, bool[1, S] True at real tokens, bool[1, S] True at those after "<think>").

    Raises PromptError if the transcript is longer.
    """
    head, tag, _ = text.partition("<think>")
    head_ids, ids = style.tokenizer.encode(head + tag), style.tokenizer.encode(text)
    # A token may reach across the end of the tag. The head by itself is then split into other tokens than in the text.
    described = next((i for i, (a, b) in enumerate(zip(head_ids, ids)) if a != b), min(len(head_ids), len(ids)))
    ids.append(style.tokenizer.end)
    if len(ids) > length:
        raise PromptError(f"the transcript has {len(ids)} tokens, more than the {length} it may have")
    token = np.full((1, length), style.tokenizer.pad, np.int32)
    token[0, : len(ids)] = ids
    mask = np.arange(length)[None] < len(ids)
    return token, mask, mask & (np.arange(length) >= described)
