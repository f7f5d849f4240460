"""Specialists that find what a function says, and a policy that asks them and answers as a test says."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from collections.abc import Callable

import numpy as np

from dtr1_jax.policies import pretrained
from dtr1_jax.rl import staged
from dtr1_jax.rl.session import Session
from dtr1_jax.specialists.embedding_cache import EmbeddingCache
from dtr1_jax.specialists.perceived import PerceivedScene
from dtr1_jax.twin.construct import DEPTH, SEGMENT, Request
from dtr1_jax.types import Example, Instance, Video

# Changes of tests/tiny.py's settings: room for a request, a twin and an answer.
ASKING = {
    "policy__constructor": "specialists", "policy__prompt": "full", "policy__prompt_tokens": 512,
    "rollout__new_tokens": 24, "rollout__construct_tokens": 9, "rollout__twin_tokens": 100,
    "specialists__detector": "fake",
}  # fmt: skip


@dataclasses.dataclass
class FakePerceiver:
    """Calls `see(visual, request)` for each request, and keeps the calls: lists of (visual, request)."""

    see: Callable[[np.ndarray | Video, Request], PerceivedScene]
    description: str = "a fake"
    cache: EmbeddingCache = dataclasses.field(default_factory=lambda: EmbeddingCache(0))  # it remembers nothing
    calls: list = dataclasses.field(default_factory=list)
    closed: bool = False

    def perceive(self, visuals, requests):
        self.calls.append(list(zip(visuals, requests)))
        return [self.see(visual, request) for visual, request in zip(visuals, requests)]

    def close(self):
        self.closed = True


def annotated(examples: list[Example]) -> FakePerceiver:
    """Finds the annotated objects that the phrases name, as specialists without faults would."""
    scenes = [(e.image if e.video is None else e.video.frames, e.scene) for e in examples]

    def see(visual, request):
        pixels = visual.frames if isinstance(visual, Video) else visual
        scene = next(scene for known, scene in scenes if np.array_equal(known, pixels))
        return PerceivedScene(
            tuple(asked_of(x, request) for x in scene if x.label in request.phrases), (), {}, request.frames
        )

    return FakePerceiver(see)


def asked_of(item: Instance, request: Request) -> Instance:
    """The object with the fields that the request asks for."""
    changes = {} if DEPTH in request.ops else {"depth": 0}
    if SEGMENT not in request.ops:
        changes["mask"] = np.zeros_like(item.mask)
    return dataclasses.replace(item, **changes)


def nothing(visual, request) -> PerceivedScene:
    """No object, whatever is asked."""
    return PerceivedScene((), frames=request.frames)


def request(*phrases, ops=("segment",)):
    value = {"ops": [{"op": "detect", "phrases": list(phrases)}, *({"op": op} for op in ops)]}
    return f"<construct>{json.dumps(value, separators=(',', ':'))}</construct>"


def speak(patch, c, requests, replies):
    """In place of the policy: query i asks for requests[i] and then answers replies[i], in all its completions."""
    tokenizer = pretrained.load_policy(c).style.tokenizer

    def appended(session, rows, sampled, ended):
        """The session with further tokens of each row; `rows` has B lists of G lists of ids."""
        arrays = {name: np.array(getattr(session, name)) for name in ("token_bgs", "mask_bgs", "length_bg")}
        for b, g in np.ndindex(arrays["length_bg"].shape):
            start, ids = arrays["length_bg"][b, g], rows[b][g]
            arrays["token_bgs"][b, g, start : start + len(ids)] = ids
            arrays["mask_bgs"][b, g, start : start + len(ids)] = sampled
            arrays["length_bg"][b, g] += len(ids)
        return dataclasses.replace(session, ended_bg=np.full(arrays["length_bg"].shape, ended), **arrays)

    def write_requests(params, lora, prompt, *_, group, **__):
        b, s = len(prompt.token_bp), 1000
        empty = Session(
            None, None, None, None, None, np.full((b, group, s), tokenizer.pad, np.int32),
            np.zeros((b, group, s), bool), np.zeros((b, group, s), np.float32), np.zeros((b, group), int), None, None,
        )  # fmt: skip
        return appended(empty, [[tokenizer.encode(text)] * group for text in requests], True, False)

    def insert_twins(params, lora, session, token_bgn, count_bg, **_):
        token, count = np.asarray(token_bgn), np.asarray(count_bg)
        rows = [[ids[:n].tolist() for ids, n in zip(*pair)] for pair in zip(token, count)]
        return appended(session, rows, False, False)

    def write_answers(params, lora, session, *_, **__):
        group = session.length_bg.shape[1]
        rows = [[[*tokenizer.encode(text), tokenizer.end]] * group for text in replies]
        return appended(session, rows, True, True)

    for name, function in list(locals().items()):
        if name.startswith(("write_", "insert_")):
            patch.setattr(staged, name, function)


class _Module(types.ModuleType):
    """Stands in for dtr1_jax.specialists.perceiver."""

    def __init__(self, see):
        super().__init__("perceiver")
        self.opened, self.see = [], see

    def open_perceiver(self, c):
        self.opened.append(FakePerceiver(self.see))
        return self.opened[-1]


def install(patch, see: Callable) -> _Module:
    """Whoever opens the specialists of the settings gets one that calls `see`; the module's `opened` lists them."""
    module = _Module(see)
    patch.setitem(sys.modules, "dtr1_jax.specialists.perceiver", module)
    return module
