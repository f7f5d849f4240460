"""Example -> chat text that asks for a twin -> padded tokens with their rotary positions."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from dtr1_jax import types
from dtr1_jax.data import patches, rotary_positions, video_files, worked_examples
from dtr1_jax.data import tokenizer as tokenizers
from dtr1_jax.data.rotary_positions import Grid
from dtr1_jax.data.visuals import first_frame
from dtr1_jax.twin import budget, transcript
from dtr1_jax.twin import text as twin_text
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer, Twin

_ANSWERS = {
    "segmentation": '{"objects":[ids of the objects whose masks are the answer]}, with an empty list if nothing fits',
    "grounding": '{"objects":[ids]} or {"boxes":[[x1,y1,x2,y2]]}, with an empty list if nothing fits',
    "vqa": '{"text":"short answer"}',
    "summary": '{"text":"one paragraph"}',
}
# boxes in an answer say no frame, so those about a video would all be of its first
_OF_A_VIDEO = {**_ANSWERS, "grounding": '{"objects":[ids]}, with an empty list if nothing fits'}
_FRAMES = {
    Frame.PIXEL: "in pixels of the picture as given, size [{w},{h}]",
    Frame.NORM1000: "in thousandths of the picture's width and height; size is [{w},{h}] pixels",
}


_MOVING = (
    'An object that does not stand still has, in place of "box", "track":{{"{first}":[x1,y1,x2,y2],'
    '"{last}":[x1,y1,x2,y2]}} with the frames where its motion begins, changes or ends, null for a frame from which on '
    'it is out of sight, and "velocity":[dx,dy] from one frame to the next. '
)
# before the query in a brief prompt: a question may want either, and its own words do not always tell
_POINT, _SPEAK = "point: ", "in words: "
_SEAMS = 4  # tokens that a twin may have more within a prompt than by itself
_PLACEHOLDER = re.compile("|".join(map(re.escape, (tokenizers.IMAGE, tokenizers.VIDEO))))


class PromptError(ValueError):
    """A prompt that can not be made to fit."""


@dataclasses.dataclass(frozen=True)
class Style:
    """How examples become prompts.

    Attributes:
      tokenizer: ids and chat template.
      geometry: how pictures and videos are cut; None = a policy that sees none, whose prompts are text alone.
      frame: coordinate frame in which the policy writes boxes.
      words: "brief" (the query, after "in words: " where the answer is text and "point: " else; for a policy that was
        cold-started), "full" (the format is explained) or "example" (the query, after examples of worked.py in earlier
        turns of the chat; for constructor "given").
      length: prompts are padded to so many tokens.
      constructor: who fills the twin: "policy", or "given" where the example brings it and the prompt shows it.
      frames: pictures of a prompt, at most, where all prompts are padded to one size; of a video its frames.
    """

    tokenizer: tokenizers.Tokenizer
    geometry: patches.Geometry | None
    frame: Frame
    words: str
    length: int
    constructor: str = "policy"
    frames: int = 1


def instruction(
    query: str, task: str, canvas: Canvas, words: str, twin: Twin | None = None, several: bool = False
) -> str:
    """The user's text, with the twin that the example brings, if any; with `several` pictures it asks for the first's.

    Names of special tokens in the query are broken up, so that they stay plain text.
    """
    query = query.replace("<|", "< |").strip()
    shown = "" if twin is None else _shown(twin)
    if words != "full":
        return shown + _asked(query, words, task not in types.POINTING)
    w, h = canvas.size
    frame = _FRAMES[canvas.frame].format(w=w, h=h)
    form = "<think>your reasoning over the twin</think><answer>answer</answer>"
    what, article = ("first picture", "the") if several else ("picture", "a")
    numbers, moving, answers = "", "", _ANSWERS
    if canvas.frames:
        what, numbers, answers = "video", f'"frames":{list(canvas.frames)},'.replace(" ", ""), _OF_A_VIDEO
        moving = _MOVING.format(first=canvas.frames[0], last=canvas.frames[-1])
    if twin is None:
        return (
            f"First describe the {what} as a digital twin, then reason over it, then answer.\n"
            f'<twin>{{"size":[{w},{h}],{numbers}"objects":[{{"id":1,"label":"mug","box":[x1,y1,x2,y2],"depth":1,'
            f'"attributes":["red"]}}]}}</twin>{form}\n'
            f"Boxes are integers {frame}. Ids count from 1, depth 1 is nearest. {moving}"
            f"Write compact JSON. The answer is {answers[task]}.\nQuery: {query}"
        )
    return (
        f"This is the digital twin of {article} {what}, all that is known of it.\n{shown}"
        f"Boxes are [x1,y1,x2,y2], integers {frame}, x to the right and y down; depth 1 is nearest. {moving}"
        f"Reason over the twin, then answer, in this form:\n{form}\n"
        f"The answer is compact JSON: {answers[task]}.\nQuery: {query}"
    )


def _asked(query: str, words: str, spoken: bool) -> str:
    """The query, and before it, in a brief prompt, whether the answer is text or points at objects."""
    return (_SPEAK if spoken else _POINT) + query if words == "brief" else query


def _shown(twin: Twin) -> str:
    return f"<twin>{twin_text.dumps_twin(twin)}</twin>\n".replace("<|", "< |")


def given(example: types.Example, canvas: Canvas) -> Twin:
    """The twin that an example brings: its annotated objects, of which a prompt may show some alone.

    Raises PromptError where it has none.
    """
    if not example.scene:
        raise PromptError(
            f'{example.uid}: no annotated objects, but the constructor is "given"; use data with a scene, or '
            'the constructor "policy"'
        )
    return twin_text.from_scene(example.scene, canvas)


def prompt(example: types.Example, style: Style) -> tuple[dict, dict | None, Canvas]:
    """What the policy gets to see of an example.

    Returns:
      (fields of types.Prompt, padded to `style.length`; fields of types.Images, not padded, or None for a policy
      without pictures; both without the batch axis; the canvas of the first picture or video, as it was resized, with
      the numbers of the video's frames; their places in what is shown where a brief prompt, without a twin, says none).

    Raises:
      PromptError: the query is blank, a picture or video can not be cut, there is no twin to show, or the prompt is
        longer than `style.length`: it is never cut, but of a twin that it shows objects are left out (twin/budget.py).
      TokenizerError: the tokenizer or its chat template has no place for a picture or video.
    """
    if not example.query.strip():
        raise PromptError(f"{example.uid}: expected a query, got only blanks; say what to look for")
    visuals = (example.visuals or (example.image,)) if style.geometry else ()
    pieces = _pieces(example, visuals, style.geometry)
    frames = () if example.video is None else tuple(map(int, example.video.index))
    if style.words == "brief" and style.constructor == "policy":  # nothing says their numbers, so they are counted
        frames = tuple(range(len(frames)))
    canvas = Canvas(style.frame, pieces[0].size if pieces else example.image.shape[1::-1], frames)
    twin = given(example, canvas) if style.constructor == "given" else None
    before = ()
    if style.words == "example":
        before = worked_examples.turns(example.task, lambda shown, query: _shown(shown) + query)

    def written(twin: Twin | None) -> tuple[list[int], list[int | Grid]]:
        text = instruction(example.query, example.task, canvas, style.words, twin, several=len(visuals) > 1)
        return _tokens(*_expand(_chat(text, visuals, style.tokenizer, before), visuals, pieces, style), style.tokenizer)

    ids, parts = written(twin)
    if twin is not None and len(ids) > style.length:
        less = _fitted(twin, len(ids) - style.length, example.query, style.tokenizer)
        ids, parts = written(less) if less.objects else (ids, parts)
    seen = [part.tokens for part in parts if isinstance(part, Grid)]
    if len(ids) > style.length:
        film = any(isinstance(item, types.Video) for item in visuals)
        of = f" ({sum(seen)} of the {'video' if film else 'picture' + 's' * (len(seen) > 1)})" if seen else ""
        less = "lower policy.video_pixels, policy.fps or policy.max_frames, " if film else "lower policy.max_pixels "
        raise PromptError(
            f"{example.uid}: the prompt has {len(ids)} tokens{of}, more than policy.prompt_tokens = {style.length}; "
            f"shorten the query, {less * bool(seen)}or raise policy.prompt_tokens"
        )
    pictures, place = patches.gather(pieces, style.geometry) if pieces else (None, np.zeros(0, np.int32))
    position, following = rotary_positions.positions(parts)
    slot = np.full(len(ids), -1, np.int32)
    slot[np.concatenate([np.full(part.tokens if isinstance(part, Grid) else part, isinstance(part, Grid))
                         for part in parts])] = place  # fmt: skip
    return _fields(ids, position, slot, following, style), pictures, canvas


def _fitted(twin: Twin, excess: int, query: str, tokenizer: tokenizers.Tokenizer) -> Twin:
    """The twin, shorter by `excess` tokens at least."""

    def count(written: str) -> int:
        return len(tokenizer.encode(written))

    room = count(twin_text.dumps_twin(twin)) - excess - _SEAMS
    return budget.fit(twin, room, query=query, count=count)


def _fields(ids: list[int], position: np.ndarray, slot: np.ndarray, following: int, style: Style) -> dict:
    """Fields of types.Prompt without the batch axis, padded to `style.length`."""
    pad = style.length - len(ids)
    return {
        "token_bp": np.pad(np.asarray(ids, np.int32), (0, pad), constant_values=style.tokenizer.pad),
        "mask_bp": np.arange(style.length) < len(ids),
        "position_bp3": np.pad(position, [(0, pad), (0, 0)]),
        "slot_bp": np.pad(slot, (0, pad), constant_values=-1),
        "next_b": np.int32(following),
    }


def _pieces(example, visuals, geometry) -> list[patches.Piece]:
    if example.visuals and visuals:  # a policy that reads text alone sees none of them
        first = first_frame(visuals)
        if first.shape[:2] != example.image.shape[:2]:
            (h, w), (h0, w0) = first.shape[:2], example.image.shape[:2]
            raise PromptError(
                f"{example.uid}: expected the first of `media`, to which boxes refer, to have the size of `image`, "
                f"{w0} x {h0} pixels, got {w} x {h}"
            )
    try:
        return [
            patches.video(item, geometry) if isinstance(item, types.Video) else patches.picture(item, geometry)
            for item in visuals
        ]
    except ValueError as error:
        raise PromptError(f"{example.uid}: {error}") from None


def _chat(text: str, visuals: Sequence, tokenizer: tokenizers.Tokenizer, before: Sequence[dict] = ()) -> str:
    """The user's turn, after the messages `before`, by the tokenizer's own template, which writes one placeholder for
    each of `media`."""
    content = text
    if visuals:
        tokenizers.require_images(tokenizer)
        content = [{"type": "video" if isinstance(item, types.Video) else "image"} for item in visuals]
        content.append({"type": "text", "text": text})
    messages = [*before, {"role": "user", "content": content}]
    try:
        chat = tokenizer.hf.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program of the checkpoint's
        raise tokenizers.TokenizerError(f"{tokenizer.where}: its chat template fails: {error}") from error
    wanted = [tokenizers.VIDEO if isinstance(item, types.Video) else tokenizers.IMAGE for item in visuals]
    found = _PLACEHOLDER.findall(chat)
    if found != wanted:
        missing = next((w for w in wanted if wanted.count(w) > found.count(w)), "order of pictures and videos")
        raise tokenizers.TokenizerError(
            f"{tokenizer.where}: the chat template has no {missing} where a picture stands: {chat!r}"
        )
    return chat


def _expand(chat: str, visuals: Sequence, pieces: Sequence[patches.Piece], style: Style) -> tuple[str, list[Grid]]:
    """(the chat with one placeholder for each grid of vision tokens; these grids).

    A video whose frames are stamped becomes a placeholder for each temporal patch, with its time before it.
    """
    geometry, grids, out, last = style.geometry, [], [], 0
    for match, item, piece in zip(_PLACEHOLDER.finditer(chat), visuals, pieces):
        before, last = chat[last : match.start()], match.end()
        times, rows, columns = patches.tokens(piece.grid, geometry)
        if not isinstance(item, types.Video):
            out += [before, match[0]]
            grids.append(Grid(times, rows, columns))
        elif geometry.video.stamped:
            if not geometry.video.wrapped and before.endswith(tokenizers.START) and chat.startswith(
                tokenizers.STOP, last
            ):  # fmt: skip
                before, last = before.removesuffix(tokenizers.START), last + len(tokenizers.STOP)
            out.append(before)
            for second in video_files.seconds(item.index, item.fps, geometry.temporal_patch):
                out.append(f"<{second:.1f} seconds>{tokenizers.START}{tokenizers.VIDEO}{tokenizers.STOP}")
            grids += [Grid(1, rows, columns)] * times
        else:
            step = geometry.video.time_scale * (geometry.temporal_patch / item.sampled_fps) or 1.0
            out += [before, match[0]]
            grids.append(Grid(times, rows, columns, step, geometry.video.resume))
    return "".join([*out, chat[last:]]), grids


def _tokens(chat: str, grids: Sequence[Grid], tokenizer: tokenizers.Tokenizer) -> tuple[list[int], list[int | Grid]]:
    """(ids, each placeholder repeated for its grid; the lengths of the texts, and the grids between them)."""
    ids, parts, rest = [], [0], list(grids)
    for token in tokenizer.encode(chat):
        if rest and token in (tokenizer.image, tokenizer.video):
            grid = rest.pop(0)
            ids += [token] * grid.tokens
            parts += [grid, 0]
        else:
            ids.append(token)
            parts[-1] += 1
    if rest:
        raise tokenizers.TokenizerError(
            f"{tokenizer.where}: {tokenizers.IMAGE} or {tokenizers.VIDEO} does not stay one token in {chat!r}; "
            "expected them as special tokens of tokenizer.json"
        )
    return ids, parts


def oracle(example: types.Example, canvas: Canvas, reasons: bool = True, by_id: bool = False) -> str:
    """The transcript of a flawless policy: the scene's twin, the reasoning (empty unless it `reasons`), the answer.

    The answer is made of words (vqa, summary: the first of the target's references), of boxes (grounding in a picture,
    unless `by_id`), or of ids (segmentation, and a video's grounding, since a box would be that of one frame).

    Raises PromptError where the example has no annotated scene with an answer.
    """
    if not example.scene or (example.answer_ids is None and not example.target.references):
        raise PromptError(f"{example.uid}: no annotated scene with an answer, so there is nothing to imitate")
    twin = twin_text.from_scene(example.scene, canvas)
    return transcript.compose(twin, example.thought if reasons else "", _answer(example, twin, by_id))


def _answer(example: types.Example, twin: Twin, by_id: bool) -> Answer:
    if example.task not in types.POINTING:
        if not example.target.references:
            raise PromptError(f"{example.uid}: no answer in words for task {example.task!r}: nothing to imitate")
        return Answer(text=example.target.references[0])
    if example.answer_ids is None:
        raise PromptError(f"{example.uid}: no objects as an answer for task {example.task!r}: nothing to imitate")
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
    """Queries (text, thought, answer) over one twin that is given in words, where the picture would stand.

    The twin comes before the queries, so that they share it as the completions of a prompt do. The first `count` of
    them that are not too long are taken.

    Returns:
      (fields of types.Prompt without the batch axis, up to and with the twin; int32[count, S] for each query its text,
      thought, answer and end token; bool[count, S] True at these; the same, True at those after "<think>", and in the
      first `drills` queries only at ids and what follows them: words that were drawn can not be learnt). S = length.

    Raises PromptError where the twin is longer than `style.length` tokens, or too few queries fit into `length`.
    """
    mark = "\N{OBJECT REPLACEMENT CHARACTER}"
    before, after = _chat(_shown(twin) + mark, (), style.tokenizer).split(mark)
    ids = style.tokenizer.encode(before)
    if len(ids) > style.length:
        raise PromptError(f"the twin has {len(ids)} tokens, more than policy.prompt_tokens = {style.length}")
    position, following = rotary_positions.positions([len(ids)])
    fields = _fields(ids, position, np.full(len(ids), -1, np.int32), following, style)
    rows = []
    for query, thought, found in queries:
        answer = twin_text.dumps_answer(found)
        asked = _asked(query, style.words, found.text is not None)
        with contextlib.suppress(PromptError):  # a longer one than there is room for
            rows.append(
                demonstration(f"{asked}{after}<think>{thought}</think><answer>{answer}</answer>", style, length)
            )
        if len(rows) == count:
            break
    if len(rows) < count:
        raise PromptError(f"expected {count} queries of less than {length} tokens with their answers, got {len(rows)}")
    token, mask, reason = (np.concatenate(part) for part in zip(*rows))
    found = style.tokenizer.tokens_like(r"\d+,?|none")[token[:drills]]
    reason[:drills] &= found | np.roll(found, 1, axis=-1)
    return fields, token, mask, reason


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
