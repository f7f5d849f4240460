"""Chat text -> token ids, with the placeholder of each picture or video repeated for its vision tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from dtr1_jax.data import patches, video_files
from dtr1_jax.data.rotary_positions import Grid
from dtr1_jax.data.tokenizer import IMAGE, START, STOP, VIDEO, Tokenizer, TokenizerError, require_images
from dtr1_jax.types import Video

_PLACEHOLDER = re.compile("|".join(map(re.escape, (IMAGE, VIDEO))))


def apply_template(
    text: str, visuals: Sequence[np.ndarray | Video], tokenizer: Tokenizer, turns: Sequence[dict] = ()
) -> str:
    """Writes the chat up to the policy's turn, by the tokenizer's own template.

    Args:
      text: the user's text.
      visuals: pictures and videos before the text; the template writes one placeholder for each.
      tokenizer: has the template.
      turns: earlier messages of the chat.

    Raises TokenizerError: the template fails, or does not write the placeholders in the order of `visuals`.
    """
    content: str | list[dict[str, str]] = text
    if visuals:
        require_images(tokenizer)
        placeholders = [{"type": "video" if isinstance(visual, Video) else "image"} for visual in visuals]
        content = [*placeholders, {"type": "text", "text": text}]
    messages = [*turns, {"role": "user", "content": content}]
    chat = tokenizer.render(messages)
    expected = [VIDEO if isinstance(visual, Video) else IMAGE for visual in visuals]
    placeholders = _PLACEHOLDER.findall(chat)
    if placeholders != expected:
        short = (name for name in expected if expected.count(name) > placeholders.count(name))
        missing = next(short, "order of pictures and videos")
        raise TokenizerError(f"{tokenizer.where}: the chat template has no {missing} where a picture stands: {chat!r}")
    return chat


def expand_placeholders(
    chat: str, visuals: Sequence[np.ndarray | Video], pieces: Sequence[patches.Piece], geometry: patches.Geometry | None
) -> tuple[str, list[Grid]]:
    """Rewrites the chat so that it has one placeholder for each grid of vision tokens.

    A video whose frames are stamped gets one placeholder for each temporal patch, with its time before it. All other
    pictures and videos are one grid each.

    Returns:
      (the chat, its grids in order).
    """
    grids, out, last = [], [], 0
    for match, visual, piece in zip(_PLACEHOLDER.finditer(chat), visuals, pieces):
        before, last = chat[last : match.start()], match.end()
        times, rows, columns = patches.token_grid(piece.grid, geometry)
        if not isinstance(visual, Video):
            out += [before, match[0]]
            grids.append(Grid(times, rows, columns))
        elif geometry.video.stamped:
            if not geometry.video.wrapped and before.endswith(START) and chat.startswith(STOP, last):
                before, last = before.removesuffix(START), last + len(STOP)
            out.append(before)
            for second in video_files.patch_seconds(visual.index, visual.fps, geometry.temporal_patch):
                out.append(f"<{second:.1f} seconds>{START}{VIDEO}{STOP}")
            grids += [Grid(1, rows, columns)] * times
        else:
            step = geometry.video.time_scale * (geometry.temporal_patch / visual.sampled_fps) or 1.0
            out += [before, match[0]]
            grids.append(Grid(times, rows, columns, step, geometry.video.resume))
    return "".join([*out, chat[last:]]), grids


def encode_chat(chat: str, grids: Sequence[Grid], tokenizer: Tokenizer) -> tuple[list[int], list[int | Grid]]:
    """Encodes the chat, with each placeholder repeated for the tokens of its grid.

    Returns:
      (token ids; the parts of the prompt in order: the number of tokens of each text, and the grids between them).

    Raises TokenizerError if a placeholder is not a single token.
    """
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
        raise TokenizerError(
            f"{tokenizer.where}: {IMAGE} or {VIDEO} does not stay one token in {chat!r}; expected them as special "
            "tokens of tokenizer.json"
        )
    return ids, parts
