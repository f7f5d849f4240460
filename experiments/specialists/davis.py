"""J&F on DAVIS videos of ways to find the object of the first frame's mask in all frames; the last line is JSON.

    python experiments/specialists/davis.py --assets=DIR
    python experiments/specialists/davis.py --assets=DIR --sam=DIR/weights/mobile_sam.pt

    first_mask   the first frame's mask alone, carried by optical flow (specialists/trackers)
    grabcut      GrabCut in each frame from the box around the carried mask
    box          that box, filled
    sam          a learned segmenter in each frame from the same box (with --sam)
    sam_tracked  the same, but the box is that of its own mask of the frame before, moved by the flow (with --sam)

Each figure is the mean of J and F over all frames of a video (evaluation/benchmarks/video_segmentation.py), and then
over the videos. The first frame, whose mask is given, counts as 1 for all. `--videos` and `--frames` shorten the run.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dtr1_jax import specialists
from dtr1_jax.data import image_files, mask_files
from dtr1_jax.evaluation.benchmarks import video_segmentation
from dtr1_jax.specialists import segmenter
from dtr1_jax.specialists.trackers import carry_mask
from dtr1_jax.specialists.trackers.propagation import tight_box

FOLDER = "davis2016_subset"

Segment = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (frame, unit box) -> bool[h, w]


def read_video(root: Path, name: str, most: int | None = None) -> tuple[list[np.ndarray], np.ndarray]:
    """(frames uint8[h, w, 3], masks bool[T, h, w]) of the first `most` frames of a video."""
    frames = sorted((root / "JPEGImages" / name).glob("*.jpg"))[:most]
    files = [root / "Annotations" / name / f"{file.stem}.png" for file in frames]
    return [image_files.load_image(f) for f in frames], np.stack([mask_files.load_mask(f) for f in files])


def from_boxes(frames: list[np.ndarray], masks: np.ndarray, segment: Segment) -> np.ndarray:
    """The first of `masks`, and the segmenter's mask from the box around each of the others."""
    found = [segment(frame, tight_box(mask)) if mask.any() else mask for frame, mask in zip(frames[1:], masks[1:])]
    return np.stack([masks[0], *found])


def learned(model) -> Segment:
    """The segmenter of a specialist with `segment(images, boxes=...)`: the mask with the best score."""

    def segment(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
        (found,) = model.segment([frame], boxes=[np.asarray(box, np.float32)[None]])
        masks = np.asarray(found.masks, bool)
        return masks[int(np.argmax(found.scores))] if len(masks) else np.zeros(frame.shape[:2], bool)

    return segment


def video_figures(frames: list[np.ndarray], masks: np.ndarray, sam: Segment | None = None) -> dict[str, float]:
    """J&F of each way on one video, and the seconds a frame of carrying a mask."""
    start = time.perf_counter()
    carried = carry_mask(frames, masks[0])
    seconds = (time.perf_counter() - start) / len(frames)
    ways = {
        "first_mask": carried,
        "grabcut": from_boxes(frames, carried, segmenter.grabcut),
        "box": from_boxes(frames, carried, segmenter.box_mask),
    }
    if sam is not None:
        ways |= {"sam": from_boxes(frames, carried, sam), "sam_tracked": carry_mask(frames, masks[0], sam)}
    scores = {name: float(np.mean(video_segmentation.score(list(way), list(masks)))) for name, way in ways.items()}
    return scores | {"seconds_a_frame": seconds}


def figures(assets: Path, sam: Path | None = None, videos: int | None = None, most: int | None = None) -> dict:
    """The means over the videos, and each video's own figures. Prints a line a video."""
    root = assets / FOLDER
    names = sorted(folder.name for folder in (root / "JPEGImages").iterdir())[:videos]
    segment = None if sam is None else learned(specialists.load(sam))
    by_video = {}
    for name in names:
        by_video[name] = {k: round(v, 4) for k, v in video_figures(*read_video(root, name, most), segment).items()}
        print(name, json.dumps(by_video[name]), flush=True)
    means = {key: round(float(np.mean([row[key] for row in by_video.values()])), 4) for key in by_video[names[0]]}
    return {f"davis_{key}": value for key, value in means.items()} | {"videos": by_video}


def main(argv: list[str] | None = None) -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help=f"folder that has {FOLDER}/")
    parser.add_argument("--sam", type=Path, help="weights of a segmenter that specialists.load reads")
    parser.add_argument("--videos", type=int, help="number of videos; all without it")
    parser.add_argument("--frames", type=int, help="number of frames of each video; all without it")
    options = parser.parse_args(argv)
    print(json.dumps(figures(options.assets, options.sam, options.videos, options.frames)))


if __name__ == "__main__":
    main()
