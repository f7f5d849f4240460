"""Reads the weights of an opened checkpoint onto the mesh, in small parts, one file after another.

Every weight must have its tensor and every tensor its weight. Each process reads only the parts that its own devices
hold. Host memory holds at most `PART` bytes of a tensor at a time, besides the pages of the one file that is open.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.models import int8
from dtr1_jax.models.weights import gguf, hf_names, native
from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint, Tensor
from dtr1_jax.models.weights.native import FLOATS, WeightsError, shortened

PART = 2**25  # bytes read at once


def load_weights(checkpoint: HfCheckpoint, template: dict, places: dict, dtype: Any = jnp.float32) -> dict:
    """Reads the weights of a checkpoint onto the devices.

    Args:
      checkpoint: the opened checkpoint; its tensors may have any float dtype.
      template: tree of shapes. A kernel that is int8 in the template is rounded while it is read (models/int8.py).
      places: tree of shardings, as `mesh.shardings` makes it from the template.
      dtype: dtype of all returned arrays, except int8 kernels and their float32 scales.

    Returns:
      Tree of jax arrays with the structure of the template.

    Raises:
      WeightsError: a tensor is missing, left over, of another shape or not a float; the architecture is unknown; or a
        file cannot be read.
    """
    flat, place = native.flatten(template), native.flatten(places)
    int8_paths = {path for path, x in flat.items() if x.dtype == jnp.int8}
    all_shapes = {path: tuple(x.shape) for path, x in flat.items()}
    shapes = {path: shape for path, shape in all_shapes.items() if not path.endswith(f"/{int8.SCALE}")}
    targets, tied = _match_tensors(checkpoint, shapes)
    buffers: dict[str, dict] = {}

    def buffer(path, dtype):
        if path not in buffers:
            buffers[path] = _empty(place[path], all_shapes[path], dtype)
        return buffers[path]

    by_file: dict[Path, list[str]] = {}
    for name in targets:
        by_file.setdefault(checkpoint.tensors[name].file, []).append(name)
    for file, names in by_file.items():
        with checkpoint.reading(file) as read:
            for name in names:
                leaf, layer = targets[name]
                shape = shapes[leaf.path]
                values = functools.partial(_floats, read, name)
                if leaf.path in int8_paths:
                    kernels, scales = buffer(leaf.path, jnp.int8), buffer(int8.scale_path(leaf.path), jnp.float32)
                    _fill_int8(kernels, scales, place[leaf.path], shape, leaf, layer, values)
                else:
                    _fill_leaf(buffer(leaf.path, dtype), place[leaf.path], shape, leaf, layer, values)
    if tied:
        _check_tied(checkpoint, *tied)
    flat = {
        path: jax.make_array_from_single_device_arrays(shape, place[path], list(buffers[path].values()))
        for path, shape in all_shapes.items()
    }
    return native.unflatten(flat)


def _match_tensors(checkpoint: HfCheckpoint, shapes: dict) -> tuple[dict, tuple[str, str] | None]:
    """Finds the leaf and layer of every tensor, and refuses a checkpoint that does not fit the shapes.

    Returns ({name in the checkpoint: (leaf, layer)}, tied). `tied` is the pair (name of the output projection, name of
    the embedding) that must hold equal numbers, or None.
    """
    family = checkpoint.config.get("model_type")
    try:
        leaves = hf_names.leaves(shapes, family)
        name_of = {hf_names.canonical(name, family): name for name in checkpoint.tensors}
    except hf_names.NamingError as error:
        raise WeightsError(f"{checkpoint.where}: {error}") from None
    faults, targets = [], {}
    for leaf in leaves:
        shape = shapes[leaf.path][1:] if leaf.stacked else shapes[leaf.path]
        shape = shape if leaf.kind == hf_names.SAME else shape[::-1]
        for layer, name in enumerate(leaf.names):
            if name not in name_of:
                untied = ", since config.json does not set tie_word_embeddings" * (leaf.path == "head/kernel")
                faults.append(f"missing {name} {list(shape)}{untied}")
                continue
            tensor = checkpoint.tensors[name_of[name]]
            targets[name_of[name]] = (leaf, layer)
            matrix = tensor.shape
            if leaf.kind == hf_names.PATCH and len(matrix) == 5:
                matrix = (matrix[0], int(np.prod(matrix[1:])))
            if matrix != shape:
                faults.append(f"{_label(tensor)}: expected shape {list(shape)}, got {list(tensor.shape)}")
            elif tensor.dtype not in FLOATS + gguf.DTYPES:
                faults.append(f"{_label(tensor)}: expected floats ({', '.join(FLOATS)}), got {tensor.dtype}")
    left_over = {name for name in checkpoint.tensors if name not in targets and not hf_names.is_buffer(name)}
    # Some checkpoints with tied embeddings hold the output projection too. It must then be equal to the embedding.
    head, table = name_of.get(f"{hf_names.HEAD}.weight"), _embedding(leaves, name_of)
    tied = (head, table) if head in left_over and table and "head/kernel" not in shapes else None
    if tied:
        left_over.discard(head)
        if checkpoint.tensors[head].shape != checkpoint.tensors[table].shape:
            faults.append(f"{_label(checkpoint.tensors[head])}: expected the tied embedding's shape")
    faults += [f"left over {_label(checkpoint.tensors[name])}" for name in sorted(left_over)]
    if faults:
        raise WeightsError(f"{checkpoint.where} does not fit the policy:\n  " + shortened(faults))
    return targets, tied


def _embedding(leaves, name_of) -> str | None:
    return next((name_of.get(leaf.names[0]) for leaf in leaves if leaf.path == "embed/table"), None)


def _label(tensor: Tensor) -> str:
    return f"{tensor.label} in {tensor.file.name}"


def _floats(read, name, rows: slice, columns: slice) -> np.ndarray:
    part = read(name, rows, columns)
    return part.astype(np.float32) if part.dtype == np.float64 else part  # JAX has no float64 by default


def _empty(place, shape, dtype) -> dict:
    """{device: zeros, shaped as the part of a leaf that the device holds}, for the devices of this process."""
    parts = place.addressable_devices_indices_map(shape)
    return {
        device: jnp.zeros([len(range(*s.indices(n))) for s, n in zip(index, shape)], dtype, device=device)
        for device, index in parts.items()
    }


def _fill_leaf(buffers: dict, place, shape, leaf: hf_names.Leaf, layer: int, read) -> None:
    """Copies one tensor into the devices' buffers. A part that several devices hold is read only once."""
    transposed = leaf.kind != hf_names.SAME
    groups: dict[tuple, list] = {}
    for device, index in place.addressable_devices_indices_map(shape).items():
        spans = tuple(s.indices(n)[:2] for s, n in zip(index, shape))
        if leaf.stacked and not spans[0][0] <= layer < spans[0][1]:
            continue
        groups.setdefault(spans, []).append(device)
    for spans, devices in groups.items():
        lead = (layer - spans[0][0],) if leaf.stacked else ()
        inner = spans[1:] if leaf.stacked else spans
        (start, stop), columns = (inner[::-1] if transposed else inner)[0], slice(0, 1)
        if len(inner) == 2:
            columns = slice(*(inner[0] if transposed else inner[1]))
        width = columns.stop - columns.start
        step = max(1, PART // (4 * width))
        for row in range(start, stop, step):
            part = read(slice(row, min(row + step, stop)), columns)
            offset = (row - start,) if len(inner) == 1 else (0, row - start) if transposed else (row - start, 0)
            for device in devices:
                buffers[device] = _fill(
                    buffers[device], jax.device_put(part, device), lead + offset, transposed=transposed
                )
            jax.block_until_ready([buffers[device] for device in devices])  # so that no second part waits in memory


@functools.partial(jax.jit, donate_argnums=0, static_argnames="transposed")
def _fill(buffer, part, start, *, transposed: bool):
    part = (part.T if transposed else part).astype(buffer.dtype)
    return jax.lax.dynamic_update_slice(buffer, part.reshape((1,) * (buffer.ndim - part.ndim) + part.shape), start)


def _fill_int8(kernels: dict, scales: dict, place, shape, leaf: hf_names.Leaf, layer: int, read) -> None:
    """Copies one kernel into the devices' buffers as int8, and its scales into theirs.

    The scale of an output depends on all its inputs. Whole rows of the file are therefore read even where a device
    holds only a part of the inputs. The scales are split over devices like the kernel's outputs.
    """
    groups: dict[tuple, list] = {}
    for device, index in place.addressable_devices_indices_map(shape).items():
        *stack, (low, _), outputs = (s.indices(n)[:2] for s, n in zip(index, shape))
        if not leaf.stacked or stack[0][0] <= layer < stack[0][1]:
            lead = (layer - stack[0][0],) if leaf.stacked else ()
            groups.setdefault(outputs, []).append((device, lead, low))
    step = max(1, PART // (4 * shape[-2]))
    for (start, stop), devices in groups.items():
        for row in range(start, stop, step):
            part = read(slice(row, min(row + step, stop)), slice(0, shape[-2]))
            for device, lead, low in devices:
                kernels[device], scales[device] = _round(
                    kernels[device], scales[device], jax.device_put(part, device), lead, low, row - start
                )
            jax.block_until_ready([kernels[device] for device, *_ in devices])


@functools.partial(jax.jit, donate_argnums=(0, 1))
def _round(kernels, scales, part, lead, low, column):
    kernel, scale = int8.quantise(part.T)
    kernel = jax.lax.dynamic_slice_in_dim(kernel, low, kernels.shape[-2])
    one = (1,) * len(lead)
    return (
        jax.lax.dynamic_update_slice(kernels, kernel.reshape(one + kernel.shape), (*lead, 0, column)),
        jax.lax.dynamic_update_slice(scales, scale.reshape(one + scale.shape), (*lead, column)),
    )


def _check_tied(checkpoint: HfCheckpoint, head: str, table: str) -> None:
    one, other = checkpoint.tensors[head], checkpoint.tensors[table]
    rows, width = other.shape
    step = max(1, PART // (4 * width))
    with checkpoint.reading(one.file) as read_one, checkpoint.reading(other.file) as read_other:
        for row in range(0, rows, step):
            part = slice(row, min(row + step, rows)), slice(0, width)
            if not np.array_equal(read_one(head, *part), read_other(table, *part)):
                raise WeightsError(
                    f"{checkpoint.where}: config.json ties the output projection to the embedding, but {_label(one)} "
                    f"is not equal to {_label(other)}; set tie_word_embeddings as the checkpoint was trained"
                )
