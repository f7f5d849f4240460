"""Example -> chat text that asks for a twin -> padded tokens with their rotary positions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dtr1_jax import types
from dtr1_jax.data import tokens as tokens_lib
from dtr1_jax.data import vision
from dtr1_jax.twin import text as twin_text
from dtr1_jax.twin import transcript
from dtr1_jax.twin.schema import Answer, Twin

_ANSWERS = {
    "segmentation": '{"objects":[ids of the objects whose masks are the answer]}, with an empty list if nothing fits',
    "grounding": '{"objects":[ids]} or {"boxes":[[x1,y1,x2,y2]]}, with an empty list if nothing fits',
    "vqa": '{"text":"short answer"}',
    "summary": '{"text":"one paragraph"}',
}
_FRAMES = {
    twin_text.Frame.PIXEL: "in pixels of the picture as given, size [{w},{h}]",
    twin_text.Frame.NORM1000: "in thousandths of the picture's width and height; size is [{w},{h}] pixels",
}


class PromptError(ValueError):
    """A prompt that can not be made to fit."""


@dataclasses.dataclass(frozen=True)
class Style:
    """How examples become prompts.

    Attributes:
      tokenizer: ids and chat template.
      geometry: how pictures are cut.
      frame: coordinate frame in which the policy writes boxes.
      words: "brief" (the query alone, for a policy that was cold-started) or "full" (the format is explained).
      length: prompts are padded to so many tokens.
    """

    tokenizer: tokens_lib.Tokenizer
    geometry: vision.Geometry
    frame: twin_text.Frame
    words: str
    length: int


def instruction(query: str, task: str, canvas: twin_text.Canvas, words: str) -> str:
    """The user's text. Names of special tokens in the query are broken up, so that they stay plain text."""
    query = query.replace("<|", "< |").strip()
    if words == "brief":
        return query
    w, h = canvas.size
    frame = _FRAMES[canvas.frame].format(w=w, h=h)
    return (
        "First describe the picture as a digital twin, then reason over it, then answer.\n"
        f'<twin>{{"size":[{w},{h}],"objects":[{{"id":1,"label":"mug","box":[x1,y1,x2,y2],"depth":1,'
        '"attributes":["red"]}]}</twin><think>your reasoning over the twin</think>'
        f"<answer>answer</answer>\nBoxes are integers {frame}. Ids count from 1, depth 1 is nearest. "
        f"Write compact JSON. The answer is {_ANSWERS[task]}.\nQuery: {query}"
    )


def prompt(example: types.Example, style: Style) -> tuple[dict, dict, twin_text.Canvas]:
    """What the policy gets to see of an example.

    Returns:
      (fields of types.Prompt and fields of types.Images, both without the batch axis; the canvas of the picture).

    Raises:
      PromptError: the query is blank, or the prompt is longer than `style.length`: one with a picture is never cut.
      TokenizerError: the chat template has no place for a picture.
    """
    if not example.query.strip():
        raise PromptError(f"{example.uid}: expected a query, got only blanks; say what to look for")
    pictures, size = vision.patches(example.image, style.geometry)
    canvas = twin_text.Canvas(style.frame, size)
    grid = vision.tokens(size, style.geometry)
    content = [
        {"type": "image"},
        {"type": "text", "text": instruction(example.query, example.task, canvas, style.words)},
    ]
    chat = style.tokenizer.hf.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    ids = style.tokenizer.encode(chat)
    if style.tokenizer.image not in ids:
        raise tokens_lib.TokenizerError(f"the chat template has no {tokens_lib.IMAGE} where a picture stands: {chat!r}")
    at = ids.index(style.tokenizer.image)
    count = grid[0] * grid[1]
    ids = ids[:at] + [style.tokenizer.image] * count + ids[at + 1 :]
    if len(ids) > style.length:
        raise PromptError(
            f"{example.uid}: the prompt has {len(ids)} tokens ({count} of the picture), more than "
            f"policy.prompt_tokens = {style.length}; "
            "shorten the query, lower policy.max_pixels or raise policy.prompt_tokens"
        )
    position, following = positions(len(ids), at, grid)
    slot = np.full(len(ids), -1, np.int32)
    slot[at : at + count] = np.arange(count)
    pad = style.length - len(ids)
    fields = {
        "token_bp": np.pad(np.asarray(ids, np.int32), (0, pad), constant_values=style.tokenizer.pad),
        "mask_bp": np.arange(style.length) < len(ids),
        "position_bp3": np.pad(position, [(0, pad), (0, 0)]),
        "slot_bp": np.pad(slot, (0, pad), constant_values=-1),
        "next_b": np.int32(following),
    }
    return fields, pictures, canvas


def positions(length: int, at: int, grid: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Rotary positions of a prompt with one picture, as Qwen2-VL numbers them.

    Text counts up in all three axes; a vision token stays at the time where the picture starts and adds its row and
    column; text goes on after the largest of them.

    Returns:
      (int32[length, 3] time, row, column; the position of the token that follows the prompt).
    """
    rows, columns = grid
    count = rows * columns
    before = np.repeat(np.arange(at)[:, None], 3, 1)
    row, column = np.divmod(np.arange(count), columns)
    picture = at + np.stack([np.zeros(count, int), row, column], -1)
    after = at + max(rows, columns) + np.repeat(np.arange(length - at - count)[:, None], 3, 1)
    return np.concatenate([before, picture, after]).astype(np.int32), at + max(rows, columns) + length - at - count


def oracle(example: types.Example, canvas: twin_text.Canvas, reasons: bool = True) -> str:
    """The transcript of a flawless policy: the scene's twin, the reasoning (empty unless it `reasons`), the answer.

    Raises PromptError where the example has no annotated scene with an answer.
    """
    if example.answer_ids is None or not example.scene:
        raise PromptError(f"{example.uid}: no annotated scene with an answer, so there is nothing to imitate")
    twin = twin_text.from_scene(example.scene, canvas)
    return transcript.compose(twin, example.thought if reasons else "", Answer(objects=tuple(example.answer_ids)))


def exercise(
    twin: Twin, queries: Sequence[tuple[str, str, tuple[int, ...]]], style: Style, length: int
) -> tuple[dict, np.ndarray, np.ndarray, np.ndarray]:
    """Queries (text, thought, ids of the answer) over one twin that is given in words, where the picture would stand.

    The twin comes before the queries, so that they share it as the completions of a prompt do.

    Returns:
      (fields of types.Prompt without the batch axis, up to and with the twin; int32[G, S] for each query its text,
      thought, answer and end token; bool[G, S] True at these; bool[G, S] True at those after "<think>"). S = `length`.

    Raises PromptError where the twin or a query is longer than it may be.
    """
    encode, mark = style.tokenizer.encode, "\N{OBJECT REPLACEMENT CHARACTER}"
    chat = style.tokenizer.hf.apply_chat_template(
        [{"role": "user", "content": mark}], tokenize=False, add_generation_prompt=True
    )
    before, after = chat.split(mark)
    ids = encode(f"{before}<twin>{twin_text.dumps_twin(twin)}</twin>\n")
    if len(ids) > style.length:
        raise PromptError(f"the twin has {len(ids)} tokens, more than policy.prompt_tokens = {style.length}")
    pad = style.length - len(ids)
    fields = {
        "token_bp": np.pad(np.asarray(ids, np.int32), (0, pad), constant_values=style.tokenizer.pad),
        "mask_bp": np.arange(style.length) < len(ids),
        "position_bp3": np.repeat(np.arange(style.length, dtype=np.int32)[:, None], 3, 1),
        "slot_bp": np.full(style.length, -1, np.int32),
        "next_b": np.int32(len(ids)),
    }
    rows = [
        demonstration(
            f"{query}{after}<think>{thought}</think><answer>{twin_text.dumps_answer(Answer(objects=answer))}</answer>",
            style, length,
        )
        for query, thought, answer in queries
    ]  # fmt: skip
    return fields, *(np.concatenate(part) for part in zip(*rows))


def demonstration(text: str, style: Style, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A transcript as tokens, padded to `length`.

    Returns:
      (int32[1, S] ids and the end token, bool[1, S] True at them, bool[1, S] True at those after "<think>").

    Raises PromptError where it is longer.
    """
    head, tag, _ = text.partition("<think>")
    twin, ids = style.tokenizer.encode(head + tag), style.tokenizer.encode(text)
    # a token may reach across the tag, so that the head alone has others than the whole
    described = next((i for i, (a, b) in enumerate(zip(twin, ids)) if a != b), min(len(twin), len(ids)))
    ids.append(style.tokenizer.end)
    if len(ids) > length:
        raise PromptError(f"the transcript has {len(ids)} tokens, more than the {length} it may have")
    token = np.full((1, length), style.tokenizer.pad, np.int32)
    token[0, : len(ids)] = ids
    mask = np.arange(length)[None] < len(ids)
    return token, mask, mask & (np.arange(length) >= described)
