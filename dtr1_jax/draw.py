"""Draws boxes with names, the answer's mask and the target's outline over a picture, and encodes PNG, GIF and MP4."""

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
TARGET = (255, 255, 255)  # colour of the target's outline, on a black border so that it shows on any picture
LARGEST = 512  # pixels: a longer side of a picture is shrunk to this before anything is drawn over it
_READABLE = 384  # the longest side of a picture is enlarged to at least this many pixels, so that text can be read
_LONGEST = 40  # longer names are cut to this many characters


def color(id: int) -> tuple[int, int, int]:
    """The colour (r, g, b), 0 to 255, of an object id. Neighbouring ids get hues that are far apart."""
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
    """Draws boxes, masks and a caption over a picture. Returns uint8[h', w', 3].

    Args:
      image: uint8[h, w, 3]. A small one is enlarged by a whole factor until its longest side has 384 pixels.
      boxes: float[n, 4] x1,y1,x2,y2, unit frame; boxes that are not finite or have no area are not drawn.
      names: n texts, one for each box; box i has `color(i + 1)`.
      mask: bool[h, w] of the answer, at any size, drawn as a tint.
      target: bool[h, w] of the target, at any size, drawn as an outline.
      marked: float[n, 4], the answer's boxes in the form of `boxes`, drawn as thick frames in the answer's colour.
      trails: float[n, k, 2] x,y, unit frame: past positions of the centre of box i, drawn as a line in its colour, with
        gaps where they are not finite.
      caption: a line of text in the lower left corner.
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
    return _add_caption(canvas, caption) if caption else canvas


def shrink(image: np.ndarray, longest: int = LARGEST) -> np.ndarray:
    """Shrinks uint8[h, w, 3] or bool[h, w] until no side is above `longest` pixels. A smaller one is unchanged."""
    scale = longest / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(
        image.astype(np.uint8), size, interpolation=cv2.INTER_AREA if image.ndim == 3 else cv2.INTER_NEAREST
    )
    return small.astype(image.dtype)


def to_png(image: np.ndarray) -> bytes:
    """Encodes uint8[h, w, 3], uint8[h, w] or bool[h, w] (True is white) as a PNG file."""
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "PNG")
    return file.getvalue()


def to_gif(pictures: Iterable[np.ndarray], fps: float) -> bytes:
    """Encodes pictures uint8[h, w, 3] of one size, at least one, as a GIF file that repeats for ever.

    A picture that equals the one before only makes that one last longer. Frame times in a GIF are hundredths of a
    second, and players slow down files with times below 2 of them, so `fps` is limited to 50. A picture lasts at
    most 20 seconds.
    """
    first, *rest = (Image.fromarray(np.ascontiguousarray(p)) for p in pictures)
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=max(20, round(1000 / _rate(fps))), loop=0)
    return file.getvalue()


def to_mp4(pictures: Iterable[np.ndarray], fps: float) -> bytes:
    """Encodes pictures uint8[h, w, 3] of one size as an MP4 file. A last odd row or column is cut off for the codec.

    Raises ImportError if PyAV is missing, and PyAV's own errors where it cannot encode the pictures.
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
    """Limits frames per second to values that both formats can store; a broken file may claim any rate."""
    return min(max(fps, 0.05), 240.0)


def _add_caption(canvas: np.ndarray, caption: str) -> np.ndarray:
    height, width = canvas.shape[:2]
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(13, round(max(height, width) / 28)))
    left, top, right, bottom = pen.textbbox((0, 0), _plain(caption), font=font)
    pen.rectangle((0, height - (bottom - top) - 8, right - left + 8, height), fill=(0, 0, 0))
    pen.text((4 - left, height - (bottom - top) - 4 - top), _plain(caption), font=font, fill=(255, 255, 255))
    return np.asarray(picture)


def _corners(boxes: np.ndarray | None, shape: tuple[int, ...]) -> dict[int, list[int]]:
    """Index of a box -> its x1, y1, x2, y2 in pixels, for the boxes that can be drawn."""
    boxes = np.zeros((0, 4)) if boxes is None else np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = [shape[1] - 1, shape[0] - 1] * 2
    valid = [i for i, b in enumerate(boxes) if np.isfinite(b).all() and b[0] < b[2] and b[1] < b[3]]
    return {i: np.rint(boxes[i].clip(0, 1) * sides).astype(int).tolist() for i in valid}


def _fit(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resizes a mask to the canvas, with smooth edges where it is enlarged."""
    size = shape[1], shape[0]
    return cv2.resize(np.asarray(mask, bool).astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5


def _outline(canvas: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], line: int) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, colour, line, cv2.LINE_AA)


def _label(canvas: np.ndarray, boxes: np.ndarray, names: Sequence[str] | None, line: int) -> np.ndarray:
    """Draws all boxes, and then their names, so that no box crosses a name."""
    height, width = canvas.shape[:2]
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(13, round(max(height, width) / 28)))
    corners = _corners(boxes, canvas.shape)
    for i in corners:
        pen.rectangle(corners[i], outline=color(i + 1), width=line)
    plates: list[tuple[int, int, int, int]] = []
    for i in corners if names is not None else []:
        text = _plain(names[i])
        left, top, right, bottom = (int(v) for v in pen.textbbox((0, 0), text, font=font))
        x1, y1, x2, y2 = plate = _place(corners[i], (right - left + 6, bottom - top + 6), (width, height), plates)
        plates.append(plate)
        pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=color(i + 1))
        pen.text((x1 + 3 - left, y1 + 3 - top), text, font=font, fill=_readable_on(color(i + 1)))
    return np.asarray(picture)


def _place(corners: Sequence[int], size: tuple[int, int], canvas: tuple[int, int], plates: list) -> tuple:
    """Chooses a place for the plate of a name: at its box, inside the canvas, and if possible over no other plate."""
    (x1, y1, x2, y2), (w, h) = corners, size
    spots = []
    for x, y in ((x1, y1 - h), (x2 - w, y1 - h), (x1, y2), (x2 - w, y2), (x1, y1), (x1, y1 - 2 * h), (x1, y2 + h)):
        x, y = max(0, min(x, canvas[0] - w)), max(0, min(y, canvas[1] - h))
        spots.append((x, y, x + w, y + h))
    free = (a for a in spots if not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in plates))
    return next(free, spots[0])


def _plain(text: str) -> str:
    """Turns any text into one short line of characters that the font has. A name may be any text of a policy."""
    text = " ".join(str(text).split()).encode("latin-1", "replace").decode("latin-1")
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _readable_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever has more contrast to the colour (luma weights of ITU-R BT.601)."""
    return (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)
