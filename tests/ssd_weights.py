"""Random weights for SSDLite-MobileNetV2 whose signal neither dies nor saturates, and folders of TensorFlow.js."""

import json
from pathlib import Path

import numpy as np


def random_weights(shapes, seed=0):
    """{name: float32 array}: kernels scaled by their fan-in, random shifts, scales and norms, the graph's numbers."""
    rng = np.random.default_rng(seed)
    numbers = {"Preprocessor/mul/x": 2 / 255, "Preprocessor/sub/y": 1.0}
    numbers |= {"ConstantFolding/Postprocessor/Decode/" + n: v for n, v in
                (("div_recip", 0.1), ("div_2_recip", 0.2), ("div_4_recip", 0.5))}  # fmt: skip
    weights = {}
    for name, shape in shapes.items():
        value = 0.3 + 0.3 * rng.standard_normal(shape)  # above 0, so that units of narrow networks do not die
        if name in numbers:
            value = np.asarray(numbers[name])
        elif name == "Postprocessor/ExpandDims":
            low = rng.uniform(0, 0.5, (1, shape[1], 2))
            value = np.concatenate([low, low + rng.uniform(0.1, 0.5, low.shape)], -1)
        elif len(shape) == 4:
            inputs = 9 if "depthwise" in name else shape[0] * shape[1] * shape[2]
            value = rng.standard_normal(shape) * np.sqrt((0.2 if "BoxEncoding" in name else 2) / inputs)
        elif name.endswith(("mul", "gamma", "moving_variance")):
            value = rng.uniform(0.7, 1.3, shape)
        weights[name] = value.astype(np.float32)
    return weights


def write(folder: Path, nodes: list, weights: dict, manifest_changes: dict | None = None) -> Path:
    """A folder with model.json and two shards; `manifest_changes` replaces entries of weights by name."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = b"".join(np.ascontiguousarray(v).tobytes() for v in weights.values())
    entries = [{"name": n, "shape": list(v.shape), "dtype": str(v.dtype)} for n, v in weights.items()]
    entries = [entry | (manifest_changes or {}).get(entry["name"], {}) for entry in entries]
    names = ["group1-shard1of2", "group1-shard2of2"]
    for name, part in zip(names, (raw[: len(raw) // 2], raw[len(raw) // 2 :])):
        (folder / name).write_bytes(part)
    manifest = [{"paths": names, "weights": entries}]
    (folder / "model.json").write_text(json.dumps({"modelTopology": {"node": nodes}, "weightsManifest": manifest}))
    return folder
