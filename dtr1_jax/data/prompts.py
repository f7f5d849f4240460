"""Example -> prompt: chat text that asks for a twin, as padded tokens with their rotary positions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dtr1_jax import types
from dtr1_jax.data import patches, rotary_positions, worked_examples
from dtr1_jax.data.chat import apply_template, encode_chat, expand_placeholders
from dtr1_jax.data.instructions import instruction, twin_block
from dtr1_jax.data.rotary_positions import Grid
from dtr1_jax.data.tokenizer import Tokenizer
from dtr1_jax.data.visuals import first_frame
from dtr1_jax.twin import budget
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Twin
from dtr1_jax.twin.text import dumps_twin, from_scene

_SEAMS = 4  # tokens by which a twin may grow inside a prompt, because tokens can span its beginning and end


class PromptError(ValueError):
    """An example that cannot become a prompt or a demonstration; the message names the example and the cause."""


@dataclasses.dataclass(frozen=True)
class Style:
    """How examples become prompts.

    Attributes:
      tokenizer: ids and chat template.
      geometry: how pictures and videos are cut into patches; None = a policy without pictures, whose prompts are text.
      frame: coordinate frame in which the policy writes boxes.
      words: "brief" (the query alone, after "in words: " where the answer is text and "point: " elsewhere; for a policy
        that was cold-started), "full" (the format is explained) or "example" (the query, after the worked examples of
        worked_examples.py as earlier turns of the chat; for the constructors "given" and "specialists").
      length: number of tokens to which prompts are padded.
      constructor: who fills the twin: "policy"; "given" where the example brings it and the prompt shows it; or
        "specialists", whom the policy asks and whose twin the host puts into the completion.
      frames: largest number of pictures, or of video frames, in one prompt; read where all prompts are padded to one
        size.
      named: whether twins have names such as "mug_1" as ids, or numbers (twin/ids.py).
      relations: whether a twin that the policy does not write itself shows the relations between objects.
      construct_tokens, twin_tokens: most tokens of a request to specialists, and of the twin that is put in; read
        where demonstrations are written.
    """

    tokenizer: Tokenizer
    geometry: patches.Geometry | None
    frame: Frame
    words: str
    length: int
    constructor: str = "policy"
    frames: int = 1
    named: bool = False
    relations: bool = True
    construct_tokens: int = 0
    twin_tokens: int = 0


def given_twin(example: types.Example, canvas: Canvas, named: bool = False, relations: bool = True) -> Twin:
    """The twin that an example brings: all objects of its scene, although a prompt may have room for some only.

    Its `more` is the number of objects that the reader left out of the scene; `named` is the form of its ids in the
    text, and `relations` whether it has those of the example.

    Raises PromptError if the data have no objects; where somebody looked and found none, the twin is empty.
    """
    if not example.scene and not example.empty_scene:
        raise PromptError(
            f'{example.uid}: no annotated objects, but the constructor is "given"; use data with a scene, or '
            'the constructor "policy"'
        )
    twin = from_scene(example.scene, canvas, named)
    ids = {item.id for item in twin.objects}
    kept = tuple(r for r in example.relations if {r[0], r[2]} <= ids) if relations else ()
    return dataclasses.replace(twin, relations=kept, more=example.hidden_objects)


def prompt(example: types.Example, style: Style) -> tuple[dict, dict | None, Canvas]:
    """The first three results of `prompt_with_twin`, which says what is raised."""
    return prompt_with_twin(example, style)[:3]


def prompt_with_twin(example: types.Example, style: Style) -> tuple[dict, dict | None, Canvas, Twin | None]:
    """Turns an example into the arrays that the policy reads.

    A prompt is never cut. Where it shows a twin that is too long, it leaves out some of the twin's objects
    (twin/budget.py).

    Returns:
      A tuple, all without the batch axis:
        the fields of types.Prompt, padded to `style.length`;
        the fields of types.Images, not padded, or None for a policy without pictures;
        the canvas of the first picture or video after resizing. The frames of a video have their numbers in the video,
        except in a brief prompt without a twin: it shows no numbers, so there the frames are counted 0, 1, ...
        the twin that the prompt shows, or None if it shows none.

    Raises:
      PromptError: the query is blank, a picture or video cannot be cut, there is no twin to show, or the prompt is
        longer than `style.length`.
      TokenizerError: the tokenizer or its chat template has no placeholder for a picture or video.
    """
    if not example.query.strip():
        raise PromptError(f"{example.uid}: expected a query, got only blanks; say what to look for")
    visuals = (example.visuals or (example.image,)) if style.geometry else ()
    pieces = _pieces(example, visuals, style.geometry)
    frames = () if example.video is None else tuple(map(int, example.video.index))
    if style.words == "brief" and style.constructor == "policy":
        frames = tuple(range(len(frames)))
    canvas = Canvas(style.frame, pieces[0].size if pieces else example.image.shape[1::-1], frames)
    twin = given_twin(example, canvas, style.named, style.relations) if style.constructor == "given" else None
    turns = ()
    if style.words == "example":
        turns = (
            worked_examples.asking_turns(example.task, style.named)
            if style.constructor == "specialists"
            else worked_examples.turns(example.task, lambda twin, query: twin_block(twin) + query, style.named)
        )

    def encode(twin: Twin | None) -> tuple[list[int], list[int | Grid]]:
        text = instruction(
            example.query, example.task, canvas, style.words, twin, len(visuals) > 1, style.named,
            style.constructor == "specialists",
        )  # fmt: skip
        chat = apply_template(text, visuals, style.tokenizer, turns)
        return encode_chat(*expand_placeholders(chat, visuals, pieces, style.geometry), style.tokenizer)

    ids, parts = encode(twin)
    if twin is not None and len(ids) > style.length:
        shorter = _shorten(twin, len(ids) - style.length, example.query, style.tokenizer)
        if shorter.objects:
            twin = shorter
            ids, parts = encode(twin)
    if len(ids) > style.length:
        raise PromptError(f"{example.uid}: {_too_long(ids, parts, visuals, style)}")
    pictures, place = patches.gather(pieces, style.geometry) if pieces else (None, np.zeros(0, np.int32))
    position, following = rotary_positions.positions(parts)
    slot = np.full(len(ids), -1, np.int32)
    slot[np.concatenate([np.full(part.tokens if isinstance(part, Grid) else part, isinstance(part, Grid))
                         for part in parts])] = place  # fmt: skip
    return prompt_fields(ids, position, slot, following, style), pictures, canvas, twin


def prompt_fields(ids: list[int], position: np.ndarray, slot: np.ndarray, following: int, style: Style) -> dict:
    """The fields of types.Prompt without the batch axis, padded to `style.length`.

    Args:
      ids: L token ids.
      position: int32[L, 3], rotary positions.
      slot: int32[L], index of the vision token at each place, -1 at text.
      following: rotary position of the first completion token.
      style: gives the length and the pad token.
    """
    pad = style.length - len(ids)
    return {
        "token_bp": np.pad(np.asarray(ids, np.int32), (0, pad), constant_values=style.tokenizer.pad),
        "mask_bp": np.arange(style.length) < len(ids),
        "position_bp3": np.pad(position, [(0, pad), (0, 0)]),
        "slot_bp": np.pad(slot, (0, pad), constant_values=-1),
        "next_b": np.int32(following),
    }


def _too_long(ids: list[int], parts: Sequence[int | Grid], visuals: Sequence, style: Style) -> str:
    """The message for a prompt above `style.length` tokens: the cause, and the settings that shorten it."""
    counts = [part.tokens for part in parts if isinstance(part, Grid)]
    has_video = any(isinstance(visual, types.Video) for visual in visuals)
    share = f" ({sum(counts)} of the {'video' if has_video else 'picture' + 's' * (len(counts) > 1)})" if counts else ""
    lower = "policy.video_pixels, policy.fps or policy.max_frames," if has_video else "policy.max_pixels"
    return (
        f"the prompt has {len(ids)} tokens{share}, more than policy.prompt_tokens = {style.length}; "
        f"shorten the query, {f'lower {lower} ' * bool(counts)}or raise policy.prompt_tokens"
    )


def _shorten(twin: Twin, excess: int, query: str, tokenizer: Tokenizer) -> Twin:
    """Leaves out objects of the twin until its text is shorter by at least `excess` tokens."""

    def count(text: str) -> int:
        return len(tokenizer.encode(text))

    room = count(dumps_twin(twin)) - excess - _SEAMS
    return budget.fit(twin, room, query=query, count=count)


def _pieces(example: types.Example, visuals: Sequence, geometry: patches.Geometry | None) -> list[patches.Piece]:
    """The pictures and videos of a prompt, cut into patches."""
    if example.visuals and visuals:  # a policy without pictures has no visuals to compare with the image
        (h, w), (h0, w0) = first_frame(visuals).shape[:2], example.image.shape[:2]
        if (h, w) != (h0, w0):
            raise PromptError(
                f"{example.uid}: expected the first of `visuals`, to which boxes refer, to have the size of `image`, "
                f"{w0} x {h0} pixels, got {w} x {h}"
            )
    try:
        return [
            patches.cut_video(visual, geometry)
            if isinstance(visual, types.Video)
            else patches.cut_picture(visual, geometry)
            for visual in visuals
        ]
    except ValueError as error:
        raise PromptError(f"{example.uid}: {error}") from None
