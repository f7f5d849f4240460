"""What the cold start of the constructor "specialists" imitates: the oracle's request, thought and answer.

The twin between request and thought stands for the one of specialists: the annotated objects that the request
names. Its tokens carry no loss, because the host puts a twin in there, and they are cut as the host cuts them: request,
twin and reply are encoded one by one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from dtr1_jax import types
from dtr1_jax.data.demonstrations import reply_parts
from dtr1_jax.data.prompts import PromptError, Style, given_twin
from dtr1_jax.twin import budget, programs, things, transcript
from dtr1_jax.twin.construct import DEPTH, DETECT, MAX_PHRASES, OPS, SEGMENT, Request
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.useful_ops import needed_ops


def oracle_request(example: types.Example, canvas: Canvas) -> Request:
    """What a flawless policy asks for: the labels of the objects that answer and thought need, and the operations that
    the query needs.

    These are the objects of the answer, those that the query's program finds or compares, and those that a generated
    thought names. Without any of them, all objects are needed, because somebody has to see that none fits. Where there
    are more than MAX_PHRASES labels, those of the answer come first.

    Raises PromptError if the example has no annotated objects.
    """
    if not example.scene:
        raise PromptError(f"{example.uid}: no annotated scene, so there is no request to imitate")
    needed = _needed_ids(example)
    first = set(example.answer_ids or ())
    items = [x for x in example.scene if x.id in needed] or list(example.scene)
    labels = [x.label for x in sorted(items, key=lambda x: x.id not in first)]
    ops = needed_ops(example)
    phrases = tuple(dict.fromkeys(" ".join(label.split()) for label in labels))[:MAX_PHRASES]
    return Request(phrases, tuple(op for op in OPS if op in ops), canvas.frames)


def _needed_ids(example: types.Example) -> set[int]:
    ids = set(example.answer_ids or ())
    if example.program:
        ids |= programs.execute(example.program, things.things_of_scene(example.scene)).evidence
        ids |= {int(word) for word in re.findall(r"\d{1,9}", example.thought)} & {x.id for x in example.scene}
    return ids


def asking_transcript(
    example: types.Example, canvas: Canvas, style: Style, reasons: bool = True
) -> tuple[str, str, str]:
    """(request, twin, reply) of the transcript of a flawless policy; answers that point at objects have their ids.

    The twin is cut to `style.twin_tokens` tokens. Raises PromptError if there is nothing to imitate, or if the objects
    that the answer needs do not fit into the twin.
    """
    request = oracle_request(example, canvas)
    wanted = set(request.phrases)
    scene = [x for x in example.scene if " ".join(x.label.split()) in wanted]
    if DEPTH not in request.ops:
        scene = [dataclasses.replace(x, depth=0) for x in scene]
    seen = dataclasses.replace(
        example, scene=tuple(scene), empty_scene=True, relations=_relations(example.relations, request)
    )
    twin, needed = given_twin(seen, canvas, style.named, style.relations), _needed_ids(example)
    tags = len(style.tokenizer.encode("<twin></twin>\n")) + 2
    twin = budget.fit(
        twin, style.twin_tokens - tags, query=example.query, first_ids=needed,
        count=lambda text: len(style.tokenizer.encode(text)),
    )  # fmt: skip
    missing = set(example.answer_ids or ()) - {x.id for x in twin.objects}
    if missing:
        raise PromptError(
            f"{example.uid}: {len(missing)} objects of the answer do not fit into a twin of rollout.twin_tokens = "
            f"{style.twin_tokens} tokens; raise it"
        )
    thought, answer = reply_parts(example, twin, reasons, by_id=True)
    written = transcript.written_request(request, canvas.frames)
    return written, transcript.inserted_text(twin), transcript.dumps_reply(twin, thought, answer)


def _relations(relations: Sequence[tuple[int, str, int]], request: Request) -> tuple[tuple[int, str, int], ...]:
    """Those that specialists would find too: without masks nobody sees what touches what, nor without depth what is in
    front.
    """
    needs = dict.fromkeys(("inside", "on", "overlapping", "touching"), SEGMENT)
    needs |= dict.fromkeys(("in front of", "behind"), DEPTH)
    return tuple(r for r in relations if needs.get(r[1], DETECT) in request.ops)


def encode_asking(parts: tuple[str, str, str], style: Style, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Encodes request, twin and reply, padded to `length` + `style.twin_tokens` tokens.

    Returns:
      int32[1, S] token ids; bool[1, S], True at the tokens of request and reply, the end token included; bool[1, S],
      True at those of the reply. Example of the masks: [1 1 0 0 1 1 0], [0 0 0 0 1 1 0].

    Raises PromptError if the request has more than `style.construct_tokens` tokens, or request and reply more than
    `length` less what the request leaves of these.
    """
    request, twin, reply = (style.tokenizer.encode(part) for part in parts)
    reply.append(style.tokenizer.end)
    if len(request) > style.construct_tokens:
        raise PromptError(
            f"the request has {len(request)} tokens, more than rollout.construct_tokens = {style.construct_tokens}"
        )
    if len(reply) > length - style.construct_tokens:
        raise PromptError(
            f"thought and answer have {len(reply)} tokens, more than the {length - style.construct_tokens} that "
            "rollout.new_tokens - rollout.construct_tokens leaves them"
        )
    size = length + style.twin_tokens
    token = np.full((1, size), style.tokenizer.pad, np.int32)
    token[0, : len(request) + len(twin) + len(reply)] = request + twin + reply
    place = np.arange(size)[None]
    in_reply = (place >= len(request) + len(twin)) & (place < len(request) + len(twin) + len(reply))
    return token, (place < len(request)) | in_reply, in_reply
