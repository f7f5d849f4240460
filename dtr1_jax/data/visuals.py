"""What a user names, pictures, video files and folders of frames, becomes what a prompt shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dtr1_jax.data import image_files, video_files
from dtr1_jax.data.patches import Geometry
from dtr1_jax.types import Video

# The suffixes of Pillow's pictures: what has none of these may be a video. A GIF counts as its first picture.
_PICTURES = frozenset(Image.registered_extensions())


def load_visual(
    path: str | os.PathLike, geometry: Geometry | None, *, fps: float = video_files.RATE
) -> np.ndarray | Video:
    """A picture uint8[h, w, 3], or a Video of the frames that the policy samples.

    Args:
      path: a picture, a video file, or a folder of frames.
      geometry: how the policy takes videos; one that takes none asks for pictures.
      fps: frames per second of a folder, or of a file that does not say.

    Raises ImageError.
    """
    file = Path(path)
    if not file.is_dir() and (not file.is_file() or file.suffix.lower() in _PICTURES or not file.suffix):
        return image_files.load_image(file)
    if geometry is None or geometry.video is None:
        raise image_files.ImageError(
            f"{file}: expected a picture file, got what may be a video, which this policy does not take; name a picture"
        )
    return video_files.load_video(file, geometry.video, geometry.temporal_patch, fps=fps)


def first_frame(shown: Sequence[np.ndarray | Video]) -> np.ndarray:
    """The picture to which boxes refer: the first, or the first frame of the first video."""
    return shown[0].frames[0] if isinstance(shown[0], Video) else shown[0]
