"""Loads a path that a user names, a picture, a video file or a folder of frames, for a prompt."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dtr1_jax.data import image_files, video_files
from dtr1_jax.data.patches import Geometry
from dtr1_jax.types import Video

# The suffixes of Pillow's formats. Any other suffix may be a video's. A GIF counts as a picture, its first frame.
_PICTURES = frozenset(Image.registered_extensions())


def load_visual(
    path: str | os.PathLike, geometry: Geometry | None, *, fps: float = video_files.RATE
) -> np.ndarray | Video:
    """Loads a picture uint8[h, w, 3], or a Video of the frames that the policy samples.

    Args:
      path: a picture, a video file, or a folder of frames.
      geometry: of the policy; None = a policy without pictures and videos.
      fps: frames per second of a folder, or of a file that does not say its own.

    Raises ImageError, also for a video where the policy takes none.
    """
    file = Path(path)
    if not file.is_dir() and (not file.is_file() or file.suffix.lower() in _PICTURES or not file.suffix):
        return image_files.load_image(file)
    if geometry is None or geometry.video is None:
        raise image_files.ImageError(
            f"{file}: this policy takes no videos, and the file may be one; name a picture file"
        )
    return video_files.load_video(file, geometry.video, geometry.temporal_patch, fps=fps)


def first_frame(visuals: Sequence[np.ndarray | Video]) -> np.ndarray:
    """The picture uint8[h, w, 3] to which boxes refer: the first of `visuals`, or its first frame if it is a video."""
    return visuals[0].frames[0] if isinstance(visuals[0], Video) else visuals[0]
