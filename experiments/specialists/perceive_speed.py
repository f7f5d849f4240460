"""How many photos a second `--mode=perceive` looks at, and which share of the time each specialist takes.

    python experiments/specialists/perceive_speed.py --assets=DIR [--photos=24]

DIR has coco_mini, weights/coco_ssd_tfjs, weights/mobile_sam.pt and weights/fastdepth. What is missing is left out and
named. All photos are looked at once before the clock starts, so that compilation is not counted, and what that pass
found is forgotten. A second timed pass shows what the memory of earlier results saves. On a busy machine
`cpu_s_per_photo` says more than the rate: the CPU seconds of this process. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import cv2
import numpy as np

from configs import default
from dtr1_jax import config
from dtr1_jax.data import image_files
from dtr1_jax.models.weights.published_files import FASTDEPTH
from dtr1_jax.modes import perceive
from dtr1_jax.specialists import perceiver, toolbox
from dtr1_jax.specialists.embedding_cache import EmbeddingCache
from dtr1_jax.twin.construct import Request


class Timed:
    """A specialist whose calls are timed."""

    def __init__(self, tool: Any, role: str, seconds: collections.Counter):
        self._tool, self._role, self._seconds = tool, role, seconds

    def forget(self) -> None:
        """Empties the model's own memory of pictures."""
        self._tool.cache = EmbeddingCache(256 << 20)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._tool, name)
        if name not in ("segment", "estimate"):
            return value

        def call(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = value(*args, **options)
            self._seconds[self._role] += time.perf_counter() - start
            return result

        return call


def open_tools(c: config.Specialists, seconds: collections.Counter) -> toolbox.Toolbox:
    """The specialists of the settings, with the time of each."""
    tools = toolbox.open_toolbox(c)
    detect = tools.detector.detect

    def timed(images: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = detect(images, **options)
        seconds["detect"] += time.perf_counter() - start
        return result

    tools.detector.detect = timed
    wrapped = {"segmenter": "segment", "depth": "depth"}
    return dataclasses.replace(
        tools, **{n: Timed(getattr(tools, n), r, seconds) for n, r in wrapped.items() if getattr(tools, n) is not None}
    )


def settings(assets: Path, scratch: Path, missing: list[str]) -> config.Specialists:
    """The settings of what is there; appends the rest to `missing`."""
    c = config.from_configdict(default.get_config()).specialists
    changes: dict[str, Any] = {"detector": str(assets / "weights/coco_ssd_tfjs/model.json")}
    if (assets / "weights/mobile_sam.pt").exists():
        changes["segmenter"] = f"sam:{assets / 'weights/mobile_sam.pt'}"
    file = assets / "weights/fastdepth" / FASTDEPTH["file"]
    try:
        import onnxruntime  # noqa: F401

        shutil.copy(file, scratch / file.name)
        (scratch / "specialist.json").write_text(json.dumps(FASTDEPTH))
        changes["depth"] = str(scratch)
    except (ImportError, OSError) as error:
        missing.append(f"depth: {error}")
    return dataclasses.replace(c, **changes)


def measure(c: config.Specialists, photos: list[np.ndarray]) -> dict[str, Any]:
    """Photos a second in the first and the second pass, and the share of each specialist in the first."""
    seconds: collections.Counter = collections.Counter()
    tools = open_tools(c, seconds)
    with perceiver.SpecialistPerceiver(tools, c) as look:
        asked: Request = perceive.request(photos[0], look.classes, c)
        passes, work, scenes = [], [], []
        for number in range(3):
            if number == 1:
                look.cache = EmbeddingCache(c.cache_mb << 20)
                if hasattr(tools.segmenter, "cache"):
                    tools.segmenter.forget()
                seconds.clear()
            begin, used, scenes = time.perf_counter(), time.process_time(), []
            for start in range(0, len(photos), c.batch):
                batch = photos[start : start + c.batch]
                scenes += look.perceive(batch, [asked] * len(batch))
            passes.append(time.perf_counter() - begin)
            work.append(time.process_time() - used)
        shares = {f"share_{role}": round(value / passes[1], 3) for role, value in seconds.items()}
    objects = sum(len(scene.instances) for scene in scenes)
    return {
        "models": look.description, "photos": len(photos), "photos_per_s": round(len(photos) / passes[1], 3),
        "photos_per_s_remembered": round(len(photos) / passes[2], 2), "objects": objects,
        "cpu_s_per_photo": round(work[1] / len(photos), 3),
        "with_failures": sum(bool(scene.failures) for scene in scenes), **shares,
    }  # fmt: skip


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", required=True)
    parser.add_argument("--photos", type=int, default=24)
    arguments = parser.parse_args()
    assets, missing = Path(arguments.assets), []
    files = sorted(assets.glob("coco_mini/**/*.jpg"))[: arguments.photos]
    if not files:
        raise SystemExit(f"{assets / 'coco_mini'}: expected photos, got none")
    photos = [image_files.load_image(file) for file in files]
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(settings(assets, Path(scratch), missing), photos)
    print(json.dumps({**figures, "missing": missing, "cores": os.cpu_count(), "opencv": cv2.__version__}))


if __name__ == "__main__":
    main()
