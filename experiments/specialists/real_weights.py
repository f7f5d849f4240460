"""The specialists with real weights on real photos: `python experiments/specialists/real_weights.py --assets=DIR`.

DIR has coco_mini, coco_panoptic_val100 and weights/. The last line is one JSON object:

`mobile_sam_box_iou`, `mobile_sam_point_iou`: mean IoU of MobileSAM's masks with all annotated objects, from the tight
box of each, and from one click on the pixel farthest from its edge. `box_iou`, `grabcut_iou`: of the filled box, and of
GrabCut from the box. `*_torch`, `*_difference`: on every --reference-th photo, the mean IoU of the torch reference, and
how far ours is from it there. `embed_speedup`, `mask_speedup`: seconds of the torch reference by ours on these photos,
in turns in one process, with `embeddings_per_s` and `masks_per_s` of ours. `ssd_*` and `fastdepth_*`: see
detectors_and_depth.py. The torch reference needs the extra [parity]; without it, these fields are left out.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax import specialists
from dtr1_jax.specialists.sam import square
from dtr1_jax.specialists.segmenter import Segmenter, box_mask

sys.path.insert(0, str(Path(__file__).parent))
import photos


def mobile_sam(assets: Path, every: int, reference: int) -> dict[str, Any]:
    """The figures of MobileSAM on every `every`-th photo, and of the torch reference on every `reference`-th of these
    (0 = none)."""
    path = assets / "weights" / "mobile_sam.pt"
    sam = specialists.load(path)
    torch_model = _torch_model(path) if reference else None
    ours: dict[str, list] = {"box": [], "point": []}
    theirs: dict[str, list] = {"box": [], "point": [], "box_ours": [], "point_ours": []}
    seconds = {"embed": [0.0, 0.0], "mask": [0.0, 0.0]}  # ours, torch
    for i, photo in enumerate(photos.read_photos(assets, every)):
        compared = torch_model is not None and i % reference == 0
        if compared and i == 0:  # compiles, and lets torch choose its algorithms
            _ask(sam, photo), _ask_torch(torch_model, photo)
            sam.cache = type(sam.cache)(256 << 20)
        answers, times = _ask(sam, photo)
        for kind, masks in answers.items():
            ours[kind] += photos.ious(masks, photo.masks).tolist()
        if compared:
            answers_torch, times_torch = _ask_torch(torch_model, photo)
            for kind, masks in answers_torch.items():
                theirs[kind] += photos.ious(masks, photo.masks).tolist()
                theirs[f"{kind}_ours"] += photos.ious(answers[kind], photo.masks).tolist()
            for part, values in seconds.items():
                values[0] += times[part]
                values[1] += times_torch[part]
        if i % 20 == 0:
            print(f"photo {i}: {len(ours['box'])} objects, IoU {np.mean(ours['box']):.4f}", flush=True)
    figures: dict[str, Any] = {f"mobile_sam_{kind}_iou": float(np.mean(values)) for kind, values in ours.items()}
    figures |= {"photos": i + 1, "objects": len(ours["box"])}
    if torch_model is not None:
        count = len(theirs["box"])
        figures |= {f"mobile_sam_{kind}_iou_torch": float(np.mean(theirs[kind])) for kind in ours}
        figures |= {
            f"mobile_sam_{kind}_iou_difference": float(abs(np.mean(theirs[kind]) - np.mean(theirs[f"{kind}_ours"])))
            for kind in ours
        }
        figures |= {f"{part}_speedup": values[1] / values[0] for part, values in seconds.items()}
        figures |= {
            "objects_torch": count, "masks_per_s": 2 * count / seconds["mask"][0],
            "embeddings_per_s": (i // reference + 1) / seconds["embed"][0],
        }  # fmt: skip
    return figures


def baselines(assets: Path, every: int) -> dict[str, float]:
    """Mean IoU of the filled box and of GrabCut."""
    box: list[float] = []
    grabcut: list[float] = []
    with Segmenter("grabcut", workers=max(os.cpu_count() or 1, 1), deadline=60.0) as segment:
        for photo in photos.read_photos(assets, every):
            filled = np.stack([box_mask(photo.image, b) for b in photo.boxes])
            box += photos.ious(filled, photo.masks).tolist()
            cut = segment([photo.image] * len(photo.boxes), [b[None] for b in photo.boxes])
            grabcut += photos.ious(np.stack([m for m in cut if m is not None]), photo.masks).tolist()
    return {"box_iou": float(np.mean(box)), "grabcut_iou": float(np.mean(grabcut))}


def _ask(sam: Any, photo: photos.Photo) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Our masks from boxes and from clicks, with the seconds of the embedding and of all masks."""
    start = time.perf_counter()
    sam.embed([photo.image])
    embedded = time.perf_counter()
    masks = {
        "box": sam.segment([photo.image], boxes=[photo.boxes])[0].masks,
        "point": sam.segment([photo.image], points=[photo.clicks[:, None]])[0].masks,
    }
    return masks, {"embed": embedded - start, "mask": time.perf_counter() - embedded}


def _torch_model(path: Path) -> Any:
    try:
        import mobile_sam_torch
        import torch
    except ImportError as error:
        print(f"without the torch reference: {error}")
        return None
    torch.set_num_threads(os.cpu_count() or 1)
    model = mobile_sam_torch.MobileSam()
    model.load(torch.load(path, map_location="cpu", weights_only=True))
    return model


def _ask_torch(model: Any, photo: photos.Photo) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The same by the torch reference."""
    import torch

    height, width = photo.image.shape[:2]
    start = time.perf_counter()
    pixels, (rows, columns) = square.squared(photo.image, model.sizes.image)
    size = int(rows), int(columns)
    embedding = model.embed(torch.tensor(pixels), *size)
    embedded = time.perf_counter()
    unit = lambda x: torch.tensor(square.to_pixels(x, height, width, model.sizes.image))  # noqa: E731
    logits, _ = model.segment(embedding, boxes=unit(photo.boxes.reshape(-1, 2, 2)).reshape(-1, 4))
    masks = {"box": model.to_masks(logits[:, 0], (height, width), *size).numpy()}
    logits, iou = model.segment(embedding, points=unit(photo.clicks[:, None]), multimask=True)
    best = logits[torch.arange(len(iou)), iou.argmax(1)]
    masks["point"] = model.to_masks(best, (height, width), *size).numpy()
    return masks, {"embed": embedded - start, "mask": time.perf_counter() - embedded}


def others(assets: Path) -> dict[str, Any]:
    """The figures of detectors_and_depth.py, where that file is."""
    if importlib.util.find_spec("detectors_and_depth") is None:
        return {}
    return importlib.import_module("detectors_and_depth").figures(assets)


def main(argv: list[str] | None = None) -> None:
    """Measures all models; prints progress, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder with the photos and weights/")
    parser.add_argument("--every", type=int, default=1, help="take every n-th photo of each file")
    parser.add_argument("--reference", type=int, default=8, help="compare every n-th of these with torch; 0 = none")
    args = parser.parse_args(argv)
    figures = mobile_sam(args.assets, args.every, args.reference)
    figures |= baselines(args.assets, args.every)
    figures |= others(args.assets)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
