"""The frame and the order of the coordinates in a foreign file: by the format's rule and by all boxes of the file.

A hypothesis is a frame with an order of the four numbers. It is possible if at most STRAY of the boxes reach beyond
their picture by more than SLACK of a side, and it is rejected if it makes the data a rare coincidence: had the boxes of
pictures of 640 x 480 been meant as 0 to 1000, some would reach beyond 640 or 480. The chance that none of n pictures
has one is about the product of 640/1000 * 480/1000 over the pictures; below RARE, the hypothesis is rejected. Where two
hypotheses remain, the format's rule decides, and without a rule the file is refused.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from dtr1_jax.data.conversion.samples import Box
from dtr1_jax.data.json_files import DataError

FRAMES = {  # name -> meaning, for messages; --frame takes these names
    "pixel": "pixels of the picture",
    "stated": "pixels of the width and height that the file states",
    "unit": "0 to 1 of the width and height",
    "square": "0 to 1 of the picture that is padded to a square",
    "norm1000": "0 to 1000 of the width and height",
    "norm1024": "0 to 1024 of the width and height",
}
ORDERS = {"xyxy": "x1 y1 x2 y2", "xywh": "x y width height", "yxyx": "y1 x1 y2 x2", "cxcywh": "centre, width, height"}
_SIDES = {"unit": 1.0, "square": 1.0, "norm1000": 1000.0, "norm1024": 1024.0}
SLACK = 0.02  # of a side, by which a box may reach beyond its picture
STRAY = 0.01  # share of boxes that may fit a hypothesis not at all; they are left out
FAULTY = 0.1  # the same share where the format has one frame and order alone
RARE = math.log(1e-3)
_LONG = math.log(0.25)  # the chance that a box has w > x and h > y, so that x, y, w, h looks like two corners


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a format says of a notation.

    Attributes:
      frames: the frames that are tried; where the format allows one alone, the boxes must agree with it.
      orders: the orders that are tried, likewise.
      usual: the frame that the format's documentation gives, where the boxes do not decide; "" = the file is refused.
      usual_order: likewise.
    """

    frames: tuple[str, ...]
    orders: tuple[str, ...] = ("xyxy",)
    usual: str = ""
    usual_order: str = ""


_TRIED = ("pixel", "stated", "unit", "norm1000")
RULES = {
    "Pascal VOC": Rule(("pixel",)),
    "YOLO": Rule(("unit",), ("cxcywh",)),
    "solution": Rule(("pixel", "stated"), usual="pixel"),  # VLM-R1: "the ground truth bounding box", of Qwen2.5-VL
    "bbox_2d": Rule(_TRIED),  # pixels for Qwen2.5-VL, 0 to 1000 for Qwen3-VL
    "box_2d": Rule(("norm1000",), ("yxyx",)),  # Gemini
    "<loc>": Rule(("norm1024",), ("yxyx",)),  # PaliGemma
    "<|box_start|>": Rule(_TRIED, usual="norm1000"),  # Qwen2-VL
    "<box>": Rule(_TRIED, usual="norm1000"),  # Qwen-VL and InternVL; Seg-Zero writes pixels
    "brackets": Rule((*_TRIED, "square")),  # LLaVA writes 0 to 1 of the padded picture, others do not
    "ms-swift": Rule(("pixel", "stated"), usual="pixel"),
    "ms-swift norm1": Rule(("unit",)),
    "ms-swift norm1000": Rule(("norm1000",)),
    "objects.bbox": Rule(_TRIED, ("xyxy", "xywh"), usual="pixel", usual_order="xywh"),  # Hugging Face: as in COCO
    "bbox": Rule(_TRIED, ("xyxy", "xywh")),
    "--fields": Rule(_TRIED, ("xyxy", "xywh")),  # of a format that only the user knows, who gives --frame
}
IN_PIXELS = frozenset(name for name, rule in RULES.items() if rule.frames == ("pixel",))  # and in no other frame


@dataclasses.dataclass(frozen=True)
class Decision:
    """The frame and order of the boxes of a notation, and the reason in words."""

    frame: str
    order: str
    reason: str


class Evidence:
    """Collects the boxes of one notation, one picture after the other."""

    def __init__(self, notation: str):
        self.notation, self._rule = notation, RULES[notation]
        self.count = self._whole = self._uneven = self._padding = 0
        self._pictures = 0
        self._largest = 0.0
        self._stated = False
        self._tried = [(frame, order) for frame in FRAMES for order in ORDERS]
        self._outside = dict.fromkeys(self._tried, 0)
        self._chance: dict[tuple[str, str], float] = {}  # (f, g) -> log chance that no box of canvas g leaves canvas f
        self._unpadded = 0.0
        self._last: tuple[Sequence[Box], object] | None = None

    def add(self, boxes: Sequence[Box], size: tuple[int, int], stated: tuple[int, int] | None, picture: object) -> None:
        """Adds the boxes of a picture of `size` = (w, h) pixels; `stated` is the size that the file states.

        Boxes that equal those before, of the same `picture`, are the same evidence: several queries have one scene.
        """
        if not boxes or (boxes, picture) == self._last:
            return
        self._last = (boxes, picture)
        self._stated |= stated is not None and stated != size
        canvases = {frame: canvas(frame, size, stated) for frame in FRAMES if frame != "square"}
        for box in boxes:
            self.count += 1
            self._whole += all(float(v).is_integer() for v in box)
            self._largest = max(self._largest, *box)
            for order in ORDERS:
                corners = as_corners(box, order)
                for frame, (w, h) in canvases.items():
                    tiny = frame in ("pixel", "stated") and max(box) <= 1  # smaller than a pixel
                    self._outside[frame, order] += tiny or _leaves(corners, w, h)
            self._padding += _touches_padding(box, size)
        self._pictures += 1
        for f, (wf, hf) in canvases.items():
            for g, (wg, hg) in canvases.items():
                if wf < wg or hf < hg:
                    chance = math.log(min(1, wf / wg)) + math.log(min(1, hf / hg))
                    self._chance[f, g] = self._chance.get((f, g), 0.0) + chance
        if size[0] != size[1]:
            self._uneven += 1
            self._unpadded += 2 * math.log(1 - (1 - min(size) / max(size)) / 2)

    def decide(self, frame: str = "", order: str = "") -> Decision:
        """The frame and order of all boxes.

        Args:
          frame, order: the user's word, keys of FRAMES and ORDERS; "" = by evidence.

        Raises DataError: no hypothesis fits the boxes, or several do and no rule decides between them.
        """
        frames = (frame,) if frame else self._rule.frames
        orders = (order,) if order else self._rule.orders
        tried = [(f, o) for f in frames for o in orders if f != "square" or frame]
        possible = [pair for pair in tried if self._fits(pair, said=bool(frame))]
        if not possible:
            raise DataError(f"{self._facts()}; {self._advice(tried)}")
        kept = [pair for pair in possible if not self._is_rare(pair, possible)] or possible
        kept = kept if self._stated else [(f, o) for f, o in kept if f != "stated" or frame == "stated"] or kept
        kept = [p for p in kept if p[0] == self._rule.usual] or kept
        kept = [p for p in kept if p[1] == self._rule.usual_order] or kept
        if len(kept) > 1:
            raise DataError(
                f"{self._facts()}, so they may be {' or '.join(_name(pair) for pair in kept)}; look at a picture and "
                f"set {self._setting(kept)}"
            )
        (chosen,) = kept
        if chosen[0] == "unit" and "square" in self._rule.frames and not frame and self._uneven:
            return self._padded(chosen)
        return Decision(*chosen, self._reason(chosen, tried, bool(frame or order)))

    def _fits(self, pair: tuple[str, str], said: bool = False) -> bool:
        allowed = STRAY * self.count
        if len(self._rule.frames) == len(self._rule.orders) == 1 and self.count >= 5:  # there is nothing to decide
            allowed = max(1, FAULTY * self.count)
        if pair[0] == "norm1000" and self._whole < self.count / 2 and not said:  # whole numbers by convention
            return False
        return self._outside["unit" if pair[0] == "square" else pair[0], pair[1]] <= allowed

    def _is_rare(self, pair: tuple[str, str], possible: Sequence[tuple[str, str]]) -> bool:
        """Whether the data would be a rare coincidence under `pair`, while another hypothesis explains it."""
        for other in possible:
            if self._chance.get((other[0], pair[0]), 0.0) < RARE and other[1] == pair[1]:
                return True
            if pair[1] == "xywh" and other[1] == "xyxy" and self._pictures * _LONG < RARE:
                return True
        return False

    def _padded(self, chosen: tuple[str, str]) -> Decision:
        """Between 0 to 1 of the picture and of the picture padded to a square. Raises DataError."""
        if self._padding > STRAY * self.count:
            reason = f"{self._padding} of {self.count} boxes reach into what would be padding of a square"
            return Decision(*chosen, f"by the boxes: {reason}")
        if self._unpadded < RARE:
            reason = f"no box of {self._uneven} pictures that are not square reaches into the padding"
            return Decision("square", chosen[1], f"by the boxes: {reason}")
        raise DataError(
            f"{self._facts()}, so they may be {FRAMES['unit']} or {FRAMES['square']}, as LLaVA writes them; look at a "
            "picture and set --frame=unit or --frame=square"
        )

    def _facts(self) -> str:
        return f"coordinates ({self.notation}): {self.count} boxes with values up to {self._largest:g}"

    def _reason(self, chosen: tuple[str, str], tried: Sequence[tuple[str, str]], forced: bool) -> str:
        facts = f"{self.count} boxes, values up to {self._largest:g}"
        stray = self._outside.get(("unit" if chosen[0] == "square" else chosen[0], chosen[1]), 0)
        facts += f", {stray} of them beyond their picture" if stray else ", all in their picture"
        if forced:
            return f"by --frame or --box: {facts}"
        alone = len(tried) == 1 or (chosen[0] == self._rule.usual and chosen[1] in (self._rule.usual_order, "xyxy"))
        return f"by the rule of the format, and the boxes fit: {facts}" if alone else f"by the boxes: {facts}"

    def _advice(self, tried: Sequence[tuple[str, str]]) -> str:
        """Says why the tried hypotheses do not fit, and which others would."""
        counts = ", ".join(f"{self._beyond(pair)} are not {_name(pair)}" for pair in tried[:4])
        others = [(f, o) for f in ("pixel", "unit", "norm1000") for o in ORDERS if self._fits((f, o))]
        others = [pair for pair in others if not self._is_rare(pair, others)]
        fit = " or ".join(_name(pair) for pair in others[:3])
        advice = f"they would fit as {fit}; set {self._setting(others[:3])}" if fit else "check the pictures and boxes"
        return f"{counts}; {advice}"

    def _beyond(self, pair: tuple[str, str]) -> int:
        return self._outside["unit" if pair[0] == "square" else pair[0], pair[1]]

    @staticmethod
    def _setting(pairs: Sequence[tuple[str, str]]) -> str:
        flags = {"frame": dict.fromkeys(f for f, _ in pairs), "box": dict.fromkeys(o for _, o in pairs)}
        flags["box"] = {} if list(flags["box"]) == ["xyxy"] else flags["box"]
        return " and ".join(f"--{name}={'|'.join(values)}" for name, values in flags.items() if values)


def canvas(frame: str, size: tuple[int, int], stated: tuple[int, int] | None) -> tuple[float, float]:
    """(w, h), the numbers at the right and lower edge of a picture of `size` pixels in a frame; not of "square"."""
    if frame in _SIDES:
        return _SIDES[frame], _SIDES[frame]
    return stated if frame == "stated" and stated else size


def as_corners(box: Box, order: str) -> Box:
    """x1, y1, x2, y2 of four numbers in an order of ORDERS."""
    a, b, c, d = box
    if order == "xywh":
        return a, b, a + c, b + d
    if order == "yxyx":
        return b, a, d, c
    if order == "cxcywh":
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return a, b, c, d


def to_pixels(box: Box, decision: Decision, size: tuple[int, int], stated: tuple[int, int] | None) -> Box | None:
    """The box as x1, y1, x2, y2 in pixels of its picture, cut at its edges; None if it does not fit the picture.

    Args:
      box: four numbers of the file.
      decision: their frame and order.
      size: (w, h) of the picture, pixels.
      stated: (w, h) as the file states them.
    """
    corners = as_corners(box, decision.order)
    w, h = size
    if decision.frame == "square":
        side = max(size)
        shifts = ((side - w) / 2, (side - h) / 2) * 2
        corners = tuple(v * side - shift for v, shift in zip(corners, shifts))  # type: ignore[assignment]
    else:
        sides = canvas(decision.frame, size, stated)
        corners = tuple(v * s / c for v, s, c in zip(corners, size * 2, sides * 2))  # type: ignore[assignment]
    if _leaves(corners, w, h):
        return None
    x1, y1, x2, y2 = (min(max(v, 0.0), s) for v, s in zip(corners, (w, h, w, h)))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _leaves(corners: Box, w: float, h: float) -> bool:
    """Whether a box reaches beyond its picture, or has no width or height."""
    x1, y1, x2, y2 = corners
    inside = min(x1 / w, y1 / h) >= -SLACK and max(x2 / w, y2 / h) <= 1 + SLACK
    return not (inside and x1 < x2 and y1 < y2)


def _touches_padding(box: Box, size: tuple[int, int]) -> bool:
    """Whether a box in 0 to 1 reaches into the padding that makes the picture a square."""
    axis = int(size[0] > size[1])  # along the shorter side
    pad = (1 - min(size) / max(size)) / 2
    return pad > 0 and (box[axis] < pad - SLACK or box[axis + 2] > 1 - pad + SLACK)


def _name(pair: tuple[str, str]) -> str:
    return FRAMES[pair[0]] + (f" ({ORDERS[pair[1]]})" if pair[1] != "xyxy" else "")
