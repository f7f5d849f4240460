"""What benchmarks share that ask for words about a video: the video of a query, and its example.

A video is a file (NAME.mp4) or a folder of frames (NAME/), which is found and decoded when its example is indexed. The
policy sees frames at even distances from its first to its last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dtr1_jax.data import image_files, video_files
from dtr1_jax.data.readers import benchmark, coco_records, file_names
from dtr1_jax.data.readers.benchmark import Benchmark, Photo, Query
from dtr1_jax.types import Example

SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", "")  # the usual one first; "" is that of a folder of frames


def named_video(names: Sequence[str], folders: Sequence[Path]) -> Photo:
    """A video that may lie under several names without suffix, in several folders; the usual ones come first."""
    return Photo(tuple(f"{name}{suffix}" for name in names for suffix in SUFFIXES), tuple(folders))


def video_path(video: Photo) -> Path:
    """The file or folder of a video; that of its first name in its first folder if there is none."""
    for name in video.names:
        for folder in video.folders:
            if file_names.is_file(folder / name) or file_names.is_folder(folder / name):
                return folder / name
    return video.folders[0] / video.names[0]


def files(video: Photo) -> Iterator[Path]:
    """The file of a video, or the files of its frames; none where it cannot be read."""
    path = video_path(video)
    if not file_names.is_folder(path):
        yield path
        return
    try:
        yield from video_files.list_frames(path)
    except (image_files.ImageError, OSError):  # the example itself reports it
        return


def open_worded_videos(
    name: str, root: Path, split: str, task: str, queries: Sequence[Query], faults: coco_records.Faults,
    counts: tuple[int | None, int | None], layout: str,
) -> Benchmark:  # fmt: skip
    """The source of these queries, after warnings of what was left out and of unusual numbers.

    `counts` are the published numbers of videos and of queries. Raises DataError as benchmark.check_files.
    """
    source = Benchmark(name, root, split, task, tuple(queries), load)
    return benchmark.checked_videos(
        source, faults, counts, layout, lambda query: query.photo.names, video_path, "video"
    )


def load(source: Benchmark, query: Query) -> Example:
    """The example of a query with the frames that the policy sees. Raises ImageError if its video cannot be read."""
    video = video_files.load_evenly(video_path(query.photo), source.frames)
    first = video.frames[0]
    target = benchmark.words_target(query, first)
    return Example(query.uid, first, query.text, source.task, target, visuals=(video,))
