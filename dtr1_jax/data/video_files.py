"""Video files and folders of frames become a types.Video: sampled frames and their times."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from dtr1_jax.data import image_files
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.patches import VideoRule
from dtr1_jax.types import Video

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")  # suffixes of the frames in a folder
RATE = 24.0  # frames per second of a folder of frames, or of a file that does not say its own
MAX_BYTES = 4 << 30  # memory for the sampled frames of one video
# A file with less than this share of the frames or seconds that its header promises counts as broken.
_WHOLE = 0.9


def load_video(path: str | os.PathLike, rule: VideoRule, temporal_patch: int, *, fps: float = RATE) -> Video:
    """Loads the frames that a policy samples from a video file, or from a folder of frames (`list_frames`).

    All frames are brought to the size of the first (`stack_frames`).

    Args:
      path: the file or folder.
      rule: how frames are sampled.
      temporal_patch: frames in a patch.
      fps: frames per second of a folder, or of a file that does not say its own.

    Raises ImageError: the path does not exist, it has no frames, the file or a frame is broken, or PyAV is missing.
    """
    return _load(path, lambda total, rate: sample_indices(total, rate, rule, temporal_patch), fps)


def load_evenly(path: str | os.PathLike, count: int, *, fps: float = RATE) -> Video:
    """Loads `count` frames, evenly from the first to the last, or all where the video has fewer.

    Raises ImageError as `load_video` does.
    """
    return _load(path, lambda total, rate: even_indices(total, count), fps)


def load_numbered(path: str | os.PathLike, numbers: Sequence[int], *, fps: float = RATE) -> Video:
    """Loads the frames with these ascending numbers, which count from 0.

    Raises ImageError as `load_video` does, and where the video has no frame of the last number.
    """

    def choose(total: int, rate: float) -> np.ndarray:
        if numbers[-1] >= total:
            raise ImageError(f"{path}: expected a frame number {numbers[-1]}, got a video of {total} frames, from 0 on")
        return np.asarray(numbers, np.int64)

    return _load(path, choose, fps)


def even_indices(total: int, count: int) -> np.ndarray:
    """int64[min(total, count)], numbers from 0 to total - 1, spaced as evenly as integers can be."""
    return np.linspace(0, total - 1, min(total, count)).round().astype(np.int64)


def stack_frames(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks frames uint8[h_t, w_t, 3], at least one, to uint8[T, h, w, 3] of the first frame's size.

    Other frames are stretched to that size, as ffmpeg's scale filter does where a stream changes its size.
    """
    h, w = frames[0].shape[:2]
    return np.stack([frame if frame.shape[:2] == (h, w) else _scaled(frame, w, h) for frame in frames])


def frame_order(name: str) -> tuple:
    """A key that sorts the names of frames by the numbers in them: f2.jpg before f10.jpg, f_007.jpg before f_8.jpg."""
    parts = re.split("([0-9]+)", name.casefold())
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), name


def list_frames(folder: Path) -> list[Path]:
    """The paths of the pictures in a folder of frames, in the order of the numbers in their names.

    Hidden files are not frames: macOS adds one, "._1.jpg", to each file in an archive. Raises ImageError without any.
    """
    try:
        files = [file for file in folder.iterdir() if file.suffix.lower() in PICTURES and file.name[0] != "."]
    except OSError as error:
        raise ImageError(f"{folder}: the folder cannot be read ({error.strerror}); check its permissions") from None
    names = sorted((file for file in files if not file.is_dir()), key=lambda file: frame_order(file.name))
    if not names:
        raise ImageError(f"{folder}: a video with 0 frames: expected pictures ({', '.join(PICTURES)}) in the folder")
    return names


def _load(path: str | os.PathLike, choose: Callable[[int, float], np.ndarray], fps: float) -> Video:
    """Loads the frames whose numbers `choose` returns for (number of frames, frames per second)."""
    path = Path(path)
    mode = image_files.file_mode(path)
    if stat.S_ISDIR(mode):
        return _load_folder(path, choose, fps)
    if not stat.S_ISREG(mode):
        raise ImageError(f"{path}: expected a video file or a folder of frames, got a device or pipe")
    if not path.stat().st_size:
        raise ImageError(f"{path}: the file is empty; fetch or export it again")
    return _load_file(path, choose, fps)


def sample_indices(total: int, fps: float, rule: VideoRule, temporal_patch: int) -> np.ndarray:
    """int64[T], the ascending numbers of the frames that the policy sees of a video of `total` frames.

    A number is repeated only where the rule repeats frames. The two spreads are those of transformers'
    Qwen3VLVideoProcessor ("ends") and Qwen2VLVideoProcessor ("steps"). The latter would take no frame of a video that
    is shorter than a temporal patch; here all its frames are taken.

    Raises ValueError if `total` is 0.
    """
    if total < 1:
        raise ValueError("the video has 0 frames; expected at least 1")
    ideal = total / fps * rule.fps
    if rule.spread == "ends":
        count = min(max(int(ideal), rule.min_frames), rule.max_frames)
        count = count if rule.repeats else min(count, total)
        return np.linspace(0, total - 1, count).round().astype(np.int64)
    whole = min(rule.max_frames, total) // temporal_patch * temporal_patch
    count = int(min(max(ideal, rule.min_frames), whole)) // temporal_patch * temporal_patch
    if not count:
        return np.arange(min(total, rule.max_frames))
    # In float32, as torch.arange computes it: a product just below an integer is rounded down to the frame before.
    return np.minimum((np.arange(count) * (total / count)).astype(np.float32).astype(np.int64), total - 1)


def patch_seconds(index: Sequence[int], fps: float, temporal_patch: int) -> list[float]:
    """The time of each temporal patch in seconds: the mean of the times of its first and last frame.

    The last frame is repeated to fill the last patch.
    """
    times = [int(i) / fps for i in index]
    times += times[-1:] * (-len(times) % temporal_patch)
    return [(times[i] + times[i + temporal_patch - 1]) / 2 for i in range(0, len(times), temporal_patch)]


def _load_folder(path: Path, choose: Callable[[int, float], np.ndarray], fps: float) -> Video:
    files = list_frames(path)
    index = choose(len(files), fps)
    first = image_files.load_image(files[index[0]])
    _check_size(path, len(index), *first.shape[1::-1])
    frames = stack_frames([first, *(image_files.load_image(files[i]) for i in index[1:])])
    return Video(frames, index, fps, len(files))


def _check_size(path: Path, count: int, w: int, h: int) -> None:
    """Raises ImageError if `count` frames of w x h pixels would take more than MAX_BYTES."""
    if w * h * 3 * count > MAX_BYTES:
        raise ImageError(
            f"{path}: {count} frames of {w} x {h} pixels take too much memory; sample fewer frames per second "
            "or shrink the video"
        )


def _load_file(path: Path, choose: Callable[[int, float], np.ndarray], fps: float) -> Video:
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
                return Video(stack_frames([frames[i] for i in places]), index, rate, total)
            if decoded < _WHOLE * total:
                raise ImageError(f"{path}: breaks off after {decoded} of {total} frames; fetch or export it again")
            total = decoded
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(
            f"{path}: too large for the memory; sample fewer frames per second or shrink the video"
        ) from None
    except Exception as error:  # a decoder may raise anything on a broken file
        raise ImageError(
            f"{path}: not a video, or a corrupt one ({type(error).__name__}: {error}); fetch or export it again"
        ) from error


def _packets(container, stream) -> tuple[int, float]:
    """Counts the frames of a stream, because the count in the header is often wrong or missing.

    Returns:
      (number of frames, seconds at which the last packet of all streams ends, or 0.0 if no packet has a time). The
      end is taken over all streams, because sound may be longer than the pictures.
    """
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
    """Decodes the frames with these ascending numbers.

    Returns:
      (frames uint8[h, w, 3], fewer than asked for where the file breaks off; number of frames that were decoded).
    """
    numbers, frames, decoded, stop = set(index.tolist()), [], 0, int(index[-1])
    with _open(av, path) as container:
        try:
            for frame in container.decode(_stream(container, path)):
                if decoded in numbers:
                    _check_size(path, len(index), frame.width, frame.height)
                    frames.append(_upright(frame.to_ndarray(format="rgb24"), frame.rotation))
                decoded += 1
                if decoded > stop:
                    break
        except av.error.FFmpegError:  # the file is broken here; keep the frames before the damage
            pass
    return frames, decoded


def _open(av, path: Path):
    return av.open(str(path), options={"protocol_whitelist": "file"})  # a playlist must not make it fetch other files


def _stream(container, path: Path):
    if not container.streams.video:
        raise ImageError(f"{path}: expected a video, got a file without pictures")
    return container.streams.video[0]


def _scaled(frame: np.ndarray, w: int, h: int) -> np.ndarray:
    shrinks = frame.shape[0] * frame.shape[1] > w * h
    return cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _upright(frame: np.ndarray, rotation: int) -> np.ndarray:
    """Turns a frame by the rotation that its camera noted, degrees counter-clockwise."""
    return np.ascontiguousarray(np.rot90(frame, round(rotation / 90) % 4)) if rotation else frame
