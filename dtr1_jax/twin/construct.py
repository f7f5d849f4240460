"""The request of a policy to the specialists: which of them to run, on which frames, with which phrases.

    <construct>{"ops":[{"op":"detect","phrases":["mug","kettle"]},{"op":"segment"},{"op":"depth"},{"op":"track"}],
    "frames":[0,8]}</construct>

`detect` finds the objects that the phrases name; the other operations describe the objects that were found. "frames"
are numbers of frames of a video; without it all frames that the policy saw are looked at. A picture has no frames.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

from dtr1_jax.twin import schema
from dtr1_jax.twin.faults import MAX_FAULTS, Fault

DETECT, SEGMENT, DEPTH, TRACK = OPS = ("detect", "segment", "depth", "track")
MAX_PHRASES = 16
MAX_PHRASE = 64  # characters


@dataclasses.dataclass(frozen=True)
class Request:
    """What a policy asks the specialists for.

    Attributes:
      phrases: what to detect, in the order of the request, without repetitions; at least one.
      ops: the operations, each once, in the order of OPS; `detect` is always among them.
      frames: numbers of the frames of a video to look at, ascending; empty = a picture.
    """

    phrases: tuple[str, ...]
    ops: tuple[str, ...] = (DETECT,)
    frames: tuple[int, ...] = ()


def dumps_request(request: Request, frames: tuple[int, ...] = ()) -> str:
    """Writes a request as JSON without spaces; `read_request` with the same frames returns it.

    Its frames are left out where they are all `frames`, the numbers of the frames that the policy saw.
    """
    phrases = {DETECT: {"phrases": request.phrases}}
    value: dict[str, Any] = {"ops": [{"op": op} | phrases.get(op, {}) for op in request.ops]}
    if request.frames != frames:
        value["frames"] = request.frames
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def read_request(value: Any, frames: tuple[int, ...] = ()) -> tuple[Request | None, tuple[Fault, ...]]:
    """Checks a decoded request.

    Args:
      value: any value, as `strict_json.loads` returns it.
      frames: numbers of the frames that the policy saw, ascending; empty = a picture.

    Returns (the request, or None if it has faults; its faults).
    """
    faults: list[Fault] = []
    if not isinstance(value, dict):
        return None, (Fault("construct", f"expected an object, got {schema.show(value)}"),)
    allowed = ("ops", "frames") if frames else ("ops",)
    faults += [
        Fault("construct", f"expected only the keys {', '.join(allowed)}, got {schema.show(key)}")
        for key in list(value)[:MAX_FAULTS]
        if key not in allowed
    ]
    phrases, ops = _read_ops(value.get("ops"), bool(frames), faults)
    chosen = _read_frames(value["frames"], frames, faults) if "frames" in value and frames else frames
    if faults:
        return None, tuple(faults[:MAX_FAULTS])
    return Request(phrases, tuple(op for op in OPS if op in ops), chosen), ()


def _read_ops(value: Any, is_video: bool, faults: list[Fault]) -> tuple[tuple[str, ...], set[str]]:
    if not isinstance(value, list) or not 1 <= len(value) <= len(OPS):
        faults.append(
            Fault("construct.ops", f"expected a list of 1 to {len(OPS)} operations, got {schema.show(value)}")
        )
        return (), set()
    phrases: tuple[str, ...] = ()
    ops: set[str] = set()
    for i, item in enumerate(value):
        where = f"construct.ops[{i}]"
        op = item.get("op") if isinstance(item, dict) else None
        known = OPS if is_video else OPS[:-1]
        if not isinstance(op, str) or op not in known:
            faults.append(Fault(where, f'expected {{"op": one of {", ".join(known)}}}, got {schema.show(item)}'))
            continue
        if op in ops:
            faults.append(Fault(where, f"expected each operation once, got {op} again"))
        ops.add(op)
        extra = [key for key in item if key not in (("op", "phrases") if op == DETECT else ("op",))]
        if extra:
            faults.append(Fault(where, f"expected no further keys in {op}, got {schema.show(extra[0])}"))
        if op == DETECT:
            phrases = _read_phrases(item.get("phrases"), f"{where}.phrases", faults)
    if DETECT not in ops:
        faults.append(Fault("construct.ops", "expected the operation detect, which finds the objects, got none"))
    return phrases, ops


def _read_phrases(value: Any, where: str, faults: list[Fault]) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_PHRASES:
        faults.append(Fault(where, f"expected a list of 1 to {MAX_PHRASES} phrases, got {schema.show(value)}"))
        return ()
    phrases = []
    for i, phrase in enumerate(value):
        if not isinstance(phrase, str) or not phrase.strip() or len(phrase) > MAX_PHRASE:
            expected = f"expected a phrase of 1 to {MAX_PHRASE} characters, not blank, got {schema.show(phrase)}"
            faults.append(Fault(f"{where}[{i}]", expected))
        elif not schema.encodable(phrase):
            faults.append(Fault(f"{where}[{i}]", "expected text that UTF-8 can carry, got a lone surrogate"))
        else:
            phrases.append(" ".join(phrase.split()))
    return tuple(dict.fromkeys(phrases))


def _read_frames(value: Any, known: tuple[int, ...], faults: list[Fault]) -> tuple[int, ...]:
    where = "construct.frames"
    if not isinstance(value, list) or not 1 <= len(value) <= len(known):
        faults.append(Fault(where, f"expected a list of 1 to {len(known)} frame numbers, got {schema.show(value)}"))
        return ()
    for i, number in enumerate(value):
        if type(number) is not int or number not in known:
            shown = schema.show(list(known[:4]))
            faults.append(
                Fault(f"{where}[{i}]", f"expected a frame that was shown, as in {shown}, got {schema.show(number)}")
            )
            return ()
    if any(b <= a for a, b in itertools.pairwise(value)):
        faults.append(Fault(where, f"expected ascending frame numbers, got {schema.show(value)}"))
    return tuple(value)
