"""Video files and folders of frames become a types.Video: sampled frames and their times."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from dtr1_jax.data import image_files
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.patches import VideoRule
from dtr1_jax.types import Video

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")  # what counts as a frame of a folder
RATE = 24.0  # frames per second of what does not say its own
MAX_VALUES = 4 << 30  # bytes that the sampled frames of one video may take
_WHOLE = 0.9  # of the frames, and of the seconds, that a file promises; with fewer it is broken


def load_video(path: str | os.PathLike, rule: VideoRule, temporal_patch: int, *, fps: float = RATE) -> Video:
    """Samples a video file, or a folder of frames in the order of their names; all as large as the first (`stacked`).

    Args:
      path: the file or folder.
      rule: which frames.
      temporal_patch: frames in a patch.
      fps: frames per second of a folder, or of a file that does not say.

    Raises ImageError: nothing there, no frames, a broken file or frame, or PyAV is missing.
    """
    return _decoded(path, lambda total, rate: sample(total, rate, rule, temporal_patch), fps)


def evenly(path: str | os.PathLike, count: int, *, fps: float = RATE) -> Video:
    """`count` frames from the first to the last, or all where there are fewer. Raises ImageError as `load` does."""
    return _decoded(path, lambda total, rate: spread(total, count), fps)


def numbered(path: str | os.PathLike, numbers: Sequence[int], *, fps: float = RATE) -> Video:
    """The frames with these ascending numbers. Raises ImageError as `load` does, or where the video has too few."""

    def index(total: int, rate: float) -> np.ndarray:
        if numbers[-1] >= total:
            raise ImageError(f"{path}: expected a frame number {numbers[-1]}, got a video of {total} frames, from 0 on")
        return np.asarray(numbers, np.int64)

    return _decoded(path, index, fps)


def spread(total: int, count: int) -> np.ndarray:
    """int64[min(total, count)]: numbers of frames from the first to the last, as even as integers can be."""
    return np.linspace(0, total - 1, min(total, count)).round().astype(np.int64)


def stacked(frames: Sequence[np.ndarray]) -> np.ndarray:
    """uint8[T, h, w, 3] of frames uint8[h_t, w_t, 3], at least one: all are brought to the size of the first.

    Width and height each by a factor of its own, as ffmpeg's scale filter does where a stream changes its size.
    """
    h, w = frames[0].shape[:2]
    return np.stack([frame if frame.shape[:2] == (h, w) else _scaled(frame, w, h) for frame in frames])


def frames_of(folder: Path) -> list[Path]:
    """The pictures in a folder of frames, in the order of their names. Raises ImageError where there are none."""
    names = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES and file.is_file())
    if not names:
        raise ImageError(f"{folder}: a video with 0 frames: expected pictures ({', '.join(PICTURES)}) in the folder")
    return names


def _decoded(path: str | os.PathLike, choose: Callable[[int, float], np.ndarray], fps: float) -> Video:
    """A video with the frames that `choose` names, given how many there are and how many a second."""
    path = Path(path)
    if path.is_dir():
        return _folder(path, choose, fps)
    if not path.exists():
        raise ImageError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise ImageError(f"{path}: expected a video file or a folder of frames, got a device or pipe")
    if not path.stat().st_size:
        raise ImageError(f"{path}: the file is empty; fetch or export it again")
    return _file(path, choose, fps)


def sample(total: int, fps: float, rule: VideoRule, temporal_patch: int) -> np.ndarray:
    """int64[T], the numbers of the frames that the policy sees of a video of `total` frames, in order; more than once
    only where the rule repeats.

    The rules of transformers' Qwen3VLVideoProcessor ("ends") and Qwen2VLVideoProcessor ("steps"); where the latter
    would take none, of a video shorter than a temporal patch, all are taken. Raises ValueError where `total` is 0.
    """
    if total < 1:
        raise ValueError("the video has 0 frames; expected at least 1")
    wanted = total / fps * rule.fps
    if rule.spread == "ends":
        count = min(max(int(wanted), rule.min_frames), rule.max_frames)
        count = count if rule.repeats else min(count, total)
        return np.linspace(0, total - 1, count).round().astype(np.int64)
    whole = min(rule.max_frames, total) // temporal_patch * temporal_patch
    count = int(min(max(wanted, rule.min_frames), whole)) // temporal_patch * temporal_patch
    if not count:
        return np.arange(min(total, rule.max_frames))
    # in float32, as torch.arange has it: where a product falls just below an integer, the frame before it is taken
    return np.minimum((np.arange(count) * (total / count)).astype(np.float32).astype(np.int64), total - 1)


def seconds(index: Sequence[int], fps: float, temporal_patch: int) -> list[float]:
    """The time of each temporal patch: the mean of its first and last frame's; the last frame is repeated to fill."""
    times = [int(i) / fps for i in index]
    times += times[-1:] * (-len(times) % temporal_patch)
    return [(times[i] + times[i + temporal_patch - 1]) / 2 for i in range(0, len(times), temporal_patch)]


def _folder(path: Path, choose: Callable[[int, float], np.ndarray], fps: float) -> Video:
    names = frames_of(path)
    index = choose(len(names), fps)
    first = image_files.load_image(names[index[0]])
    _check_size(path, len(index), *first.shape[1::-1])
    return Video(stacked([first, *(image_files.load_image(names[i]) for i in index[1:])]), index, fps, len(names))


def _check_size(path: Path, count: int, w: int, h: int) -> None:
    """Raises ImageError where so many frames would take more than MAX_VALUES."""
    if w * h * 3 * count > MAX_VALUES:
        raise ImageError(
            f"{path}: {count} frames of {w} x {h} pixels are too many; lower the frames per second or shrink it"
        )


def _file(path: Path, choose: Callable[[int, float], np.ndarray], fps: float) -> Video:
    try:
        import av
    except ImportError:
        raise ImageError(
            f"{path}: reading video files needs PyAV: pip install 'dtr1_jax[video]', or give a folder of frames"
        ) from None
    try:
        with _open(av, path) as container:
            stream = _stream(container, path)
            rate = float(stream.average_rate or stream.guessed_rate or fps)
            length = (container.duration or 0) / av.time_base
            total, end = _packets(container, stream)
        if 0 < end < _WHOLE * length:
            raise ImageError(f"{path}: breaks off after {end:.2f} of {length:.2f} seconds; fetch or export it again")
        while True:
            if not total:
                raise ImageError(f"{path}: a video with 0 frames; export it again")
            index = choose(total, rate)
            numbers, places = np.unique(index, return_inverse=True)
            frames, decoded = _decode(av, path, numbers)
            if len(frames) == len(numbers):
                return Video(stacked([frames[i] for i in places]), index, rate, total)
            if decoded < _WHOLE * total:
                raise ImageError(f"{path}: breaks off after {decoded} of {total} frames; fetch or export it again")
            total = decoded
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{path}: too large for the memory; lower the frames per second or shrink it") from None
    except Exception as error:  # decoders of broken files raise nearly everything
        raise ImageError(
            f"{path}: not a video, or a corrupt one ({type(error).__name__}: {error}); fetch or export it again"
        ) from error


def _packets(container, stream) -> tuple[int, float]:
    """(how many frames a stream has, since what the header says of it is often wrong or missing; the time in seconds at
    which the last packet of all streams ends, since sound may be longer than the pictures; 0.0 = no packet has one)."""
    total, end = 0, 0.0
    for packet in container.demux():
        if not packet.size:
            continue
        total += packet.stream.index == stream.index
        time = packet.dts if packet.pts is None else packet.pts
        if time is not None:
            end = max(end, float((time + (packet.duration or 0)) * packet.time_base))
    return total, end


def _decode(av, path: Path, index: np.ndarray) -> tuple[list[np.ndarray], int]:
    """(uint8[h, w, 3] of the frames with these numbers, as far as they can be had; how many frames were decoded)."""
    wanted, frames, decoded, stop = set(index.tolist()), [], 0, int(index[-1])
    with _open(av, path) as container:
        try:
            for frame in container.decode(_stream(container, path)):
                if decoded in wanted:
                    _check_size(path, len(index), frame.width, frame.height)
                    frames.append(_upright(frame.to_ndarray(format="rgb24"), frame.rotation))
                decoded += 1
                if decoded > stop:
                    break
        except av.error.FFmpegError:  # of a broken file, what comes before the damage counts
            pass
    return frames, decoded


def _open(av, path: Path):
    return av.open(str(path), options={"protocol_whitelist": "file"})  # no playlist makes it fetch anything


def _stream(container, path: Path):
    if not container.streams.video:
        raise ImageError(f"{path}: expected a video, got a file without pictures")
    return container.streams.video[0]


def _scaled(frame: np.ndarray, w: int, h: int) -> np.ndarray:
    shrinks = frame.shape[0] * frame.shape[1] > w * h
    return cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _upright(frame: np.ndarray, rotation: int) -> np.ndarray:
    """Turns a frame by what its camera noted, degrees counter-clockwise."""
    return np.ascontiguousarray(np.rot90(frame, round(rotation / 90) % 4)) if rotation else frame
