"""Pictures for people: boxes with their names, the answer's mask as a tint, the target as an outline."""

from __future__ import annotations

import colorsys
import io
import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

MASK = (255, 46, 126)  # colour of the answer's mask
TARGET = (255, 255, 255)  # colour of the target's outline, on black so that it shows everywhere
LARGEST = 512  # side in pixels to which pictures are shrunk before they are drawn over
_READABLE = 384  # the longest side of a picture is enlarged to at least so many pixels, so that text can be read
_LONGEST = 40  # characters of a name that are shown


def color(id: int) -> tuple[int, int, int]:
    """r, g, b in 0..255 for an object id, the same on every call; neighbouring ids get hues far apart."""
    hue = (0.57 + id * 0.381966) % 1.0  # steps of the golden angle
    return tuple(round(255 * v) for v in colorsys.hls_to_rgb(hue, 0.55, 0.85))


def overlay(
    image: np.ndarray,
    *,
    boxes: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    mask: np.ndarray | None = None,
    target: np.ndarray | None = None,
    marked: np.ndarray | None = None,
    trails: np.ndarray | None = None,
    caption: str = "",
) -> np.ndarray:
    """The picture with what is known of it drawn over, uint8[h', w', 3].

    Args:
      image: uint8[h, w, 3]. A small one comes out enlarged by a whole factor, its longest side at least 384 pixels.
      boxes: float[n, 4] x1,y1,x2,y2, unit frame; those that are not finite or have no area are left out.
      names: n texts to stand at the boxes; box i has `color(i + 1)`.
      mask: bool[h, w] at any size, tinted.
      target: bool[h, w] at any size, outlined.
      marked: float[n, 4] as boxes, those of the answer: a thick frame around each, in the answer's colour.
      trails: float[n, k, 2] x,y, unit frame: where the middle of box i was of late, as a line in its colour, with gaps
        where it is not finite.
      caption: a line in the lower left corner.
    """
    height, width = image.shape[:2]
    factor = math.ceil(_READABLE / max(height, width))
    if factor > 1:
        image = cv2.resize(image, (width * factor, height * factor), interpolation=cv2.INTER_CUBIC)
    canvas = np.array(image)
    line = max(2, round(max(canvas.shape[:2]) / 250))
    if mask is not None:
        mask = _fit(mask, canvas.shape)
        canvas[mask] = (0.5 * canvas[mask] + 0.5 * np.array(MASK)).astype(np.uint8)
        _outline(canvas, mask, MASK, line)
    if target is not None:
        target = _fit(target, canvas.shape)
        _outline(canvas, target, (0, 0, 0), line + 2)
        _outline(canvas, target, TARGET, line)
    for x1, y1, x2, y2 in _corners(marked, canvas.shape).values():
        cv2.rectangle(canvas, (x1 - 2 * line, y1 - 2 * line), (x2 + 2 * line, y2 + 2 * line), MASK, 2 * line)
    for i, trail in enumerate([] if trails is None else trails):
        for a, b in itertools.pairwise(trail):
            if np.isfinite([a, b]).all():
                ends = (np.rint(p.clip(0, 1) * [canvas.shape[1] - 1, canvas.shape[0] - 1]).astype(int) for p in (a, b))
                cv2.line(canvas, *(p.tolist() for p in ends), color(i + 1), line, cv2.LINE_AA)
    if boxes is not None:
        canvas = _label(canvas, np.asarray(boxes, np.float64).reshape(-1, 4), names, line)
    return _captioned(canvas, caption) if caption else canvas


def shrink(image: np.ndarray, longest: int = LARGEST) -> np.ndarray:
    """uint8[h, w, 3] or bool[h, w] made smaller so that no side is above `longest` pixels; a smaller one as it is."""
    scale = longest / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(
        image.astype(np.uint8), size, interpolation=cv2.INTER_AREA if image.ndim == 3 else cv2.INTER_NEAREST
    )
    return small.astype(image.dtype)


def to_png(image: np.ndarray) -> bytes:
    """A PNG file of uint8[h, w, 3], uint8[h, w] or bool[h, w] (True is white)."""
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "PNG")
    return file.getvalue()


def to_gif(pictures: Iterable[np.ndarray], fps: float) -> bytes:
    """A GIF file of uint8[h, w, 3] of one size, at least one, that plays again and again.

    Pictures that equal the one before make it last longer. A GIF knows hundredths of a second, and players slow down
    below two, so a fast one plays at 50 pictures a second, and a picture lasts 20 seconds at most.
    """
    first, *rest = (Image.fromarray(np.ascontiguousarray(p)) for p in pictures)
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=max(20, round(1000 / _rate(fps))), loop=0)
    return file.getvalue()


def to_mp4(pictures: Iterable[np.ndarray], fps: float) -> bytes:
    """An MP4 file of uint8[h, w, 3] of one size; a last odd row or column is cut off, as the format asks.

    Raises ImportError where PyAV is missing, and errors of its own where it can not encode them.
    """
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = None
        for picture in pictures:
            if stream is None:
                codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
                stream = container.add_stream(codec, rate=Fraction(_rate(fps)).limit_denominator(1000))
                stream.height, stream.width = (side // 2 * 2 for side in picture.shape[:2])
                stream.pix_fmt = "yuv420p"
            even = np.ascontiguousarray(picture[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _rate(fps: float) -> float:
    """Frames per second that both formats can say; a broken file may claim any."""
    return min(max(fps, 0.05), 240.0)


def _captioned(canvas: np.ndarray, caption: str) -> np.ndarray:
    height, width = canvas.shape[:2]
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(13, round(max(height, width) / 28)))
    left, top, right, bottom = pen.textbbox((0, 0), _plain(caption), font=font)
    pen.rectangle((0, height - (bottom - top) - 8, right - left + 8, height), fill=(0, 0, 0))
    pen.text((4 - left, height - (bottom - top) - 4 - top), _plain(caption), font=font, fill=(255, 255, 255))
    return np.asarray(picture)


def _corners(boxes: np.ndarray | None, shape: tuple[int, ...]) -> dict[int, list[int]]:
    """Place -> x1, y1, x2, y2 in pixels, of the boxes that can be shown."""
    boxes = np.zeros((0, 4)) if boxes is None else np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = [shape[1] - 1, shape[0] - 1] * 2
    shown = [i for i, b in enumerate(boxes) if np.isfinite(b).all() and b[0] < b[2] and b[1] < b[3]]
    return {i: np.rint(boxes[i].clip(0, 1) * sides).astype(int).tolist() for i in shown}


def _fit(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask at the size of the canvas, with smooth edges where it is enlarged."""
    size = shape[1], shape[0]
    return cv2.resize(np.asarray(mask, bool).astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5


def _outline(canvas: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], line: int) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, colour, line, cv2.LINE_AA)


def _label(canvas: np.ndarray, boxes: np.ndarray, names: Sequence[str] | None, line: int) -> np.ndarray:
    """The canvas with all boxes, then their names, so that no box crosses a name."""
    height, width = canvas.shape[:2]
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(13, round(max(height, width) / 28)))
    corners = _corners(boxes, canvas.shape)
    for i in corners:
        pen.rectangle(corners[i], outline=color(i + 1), width=line)
    taken: list[tuple[int, int, int, int]] = []
    for i in corners if names is not None else []:
        text = _plain(names[i])
        left, top, right, bottom = (int(v) for v in pen.textbbox((0, 0), text, font=font))
        x1, y1, x2, y2 = plate = _place(corners[i], (right - left + 6, bottom - top + 6), (width, height), taken)
        taken.append(plate)
        pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=color(i + 1))
        pen.text((x1 + 3 - left, y1 + 3 - top), text, font=font, fill=_readable_on(color(i + 1)))
    return np.asarray(picture)


def _place(corners: Sequence[int], size: tuple[int, int], canvas: tuple[int, int], taken: list) -> tuple:
    """Where the plate of a name goes: above its box or near it, on the canvas, over no other plate if possible."""
    (x1, y1, x2, y2), (w, h) = corners, size
    spots = []
    for x, y in ((x1, y1 - h), (x2 - w, y1 - h), (x1, y2), (x2 - w, y2), (x1, y1), (x1, y1 - 2 * h), (x1, y2 + h)):
        x, y = max(0, min(x, canvas[0] - w)), max(0, min(y, canvas[1] - h))
        spots.append((x, y, x + w, y + h))
    free = (a for a in spots if not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in taken))
    return next(free, spots[0])


def _plain(text: str) -> str:
    """One short line in letters that the font has; a name may come from a model and be anything."""
    text = " ".join(str(text).split()).encode("latin-1", "replace").decode("latin-1")
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _readable_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever stands out (luma weights of ITU-R BT.601)."""
    return (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)
