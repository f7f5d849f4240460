"""An opened checkpoint becomes arrays on the mesh: strict both ways, streamed in small parts, shard by shard.

Each process reads only what its own devices hold. At most `PART` bytes of a tensor are in host memory at a time,
besides the pages of the one shard that is open.
"""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.models import int8
from dtr1_jax.models.weights import hf_names, native
from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint, Tensor
from dtr1_jax.models.weights.native import FLOATS, WeightsError, shortened

PART = 2**25  # bytes read at once
QUANTISED = ("Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")  # of GGUF files


def load_weights(stored: HfCheckpoint, template: dict, places: dict, dtype=jnp.float32) -> dict:
    """The weights of a checkpoint.

    Args:
      stored: the opened checkpoint; its tensors may be of any float dtype.
      template: tree of shapes. Kernels that are int8 in it are rounded while they are read (models/int8.py).
      places: tree of shardings, as `mesh.shardings` makes it of the template.
      dtype: of all arrays that are returned, but for those of a rounded kernel.

    Returns:
      Tree of jax arrays like the template.

    Raises:
      WeightsError: a tensor missing, left over, of another shape or no float; an unknown architecture; a file that
        breaks while it is read.
    """
    flat, place = native.flatten(template), native.flatten(places)
    rounded = {path for path, x in flat.items() if x.dtype == jnp.int8}
    every = {path: tuple(x.shape) for path, x in flat.items()}
    shapes = {path: shape for path, shape in every.items() if not path.endswith(f"/{int8.SCALE}")}
    wanted, tied = _checked(stored, shapes)
    buffers: dict[str, dict] = {}

    def held(path, dtype):
        if path not in buffers:
            buffers[path] = _empty(place[path], every[path], dtype)
        return buffers[path]

    by_file: dict[Path, list[str]] = {}
    for name in wanted:
        by_file.setdefault(stored.tensors[name].file, []).append(name)
    for file, names in by_file.items():
        with stored.reading(file) as read:
            for name in names:
                leaf, layer = wanted[name]
                shape = shapes[leaf.path]
                values = functools.partial(_floats, read, name)
                if leaf.path in rounded:
                    kernels, scales = held(leaf.path, jnp.int8), held(int8.beside(leaf.path), jnp.float32)
                    _fill_rounded(kernels, scales, place[leaf.path], shape, leaf, layer, values)
                else:
                    _fill_leaf(held(leaf.path, dtype), place[leaf.path], shape, leaf, layer, values)
    if tied:
        _check_tied(stored, *tied)
    flat = {
        path: jax.make_array_from_single_device_arrays(shape, place[path], list(buffers[path].values()))
        for path, shape in every.items()
    }
    return native.unflatten(flat)


def _checked(stored: HfCheckpoint, shapes: dict) -> tuple[dict, tuple[str, str] | None]:
    """({name in the checkpoint: (leaf, layer)}, the pair (head, embedding) that must be equal or None)."""
    family = stored.config.get("model_type")
    try:
        leaves = hf_names.leaves(shapes, family)
        given = {hf_names.canonical(name, family): name for name in stored.tensors}
    except hf_names.NamingError as error:
        raise WeightsError(f"{stored.where}: {error}") from None
    faults, wanted = [], {}
    for leaf in leaves:
        shape = shapes[leaf.path][1:] if leaf.stacked else shapes[leaf.path]
        shape = shape if leaf.kind == hf_names.SAME else shape[::-1]
        for layer, name in enumerate(leaf.names):
            if name not in given:
                faults.append(f"missing {name} {list(shape)}")
                continue
            tensor = stored.tensors[given[name]]
            wanted[given[name]] = (leaf, layer)
            got = tensor.shape
            if leaf.kind == hf_names.PATCH and len(got) == 5:
                got = (got[0], int(np.prod(got[1:])))
            if got != shape:
                faults.append(f"{_said(tensor)}: expected shape {list(shape)}, got {list(tensor.shape)}")
            elif tensor.dtype not in FLOATS + QUANTISED:
                faults.append(f"{_said(tensor)}: expected floats ({', '.join(FLOATS)}), got {tensor.dtype}")
    left = set(stored.tensors) - set(wanted)
    # some checkpoints with tied embeddings hold the head as well: it may be there, but it must say the same
    head, table = given.get(f"{hf_names.HEAD}.weight"), _embedding(leaves, given)
    tied = (head, table) if head in left and table and "head/kernel" not in shapes else None
    if tied:
        left.discard(head)
        if stored.tensors[head].shape != stored.tensors[table].shape:
            faults.append(f"{_said(stored.tensors[head])}: expected the tied embedding's shape")
    faults += [f"left over {_said(stored.tensors[name])}" for name in sorted(left)]
    if faults:
        raise WeightsError(f"{stored.where} does not fit the policy:\n  " + shortened(faults))
    return wanted, tied


def _embedding(leaves, given) -> str | None:
    return next((given.get(leaf.names[0]) for leaf in leaves if leaf.path == "embed/table"), None)


def _said(tensor: Tensor) -> str:
    return f"{tensor.label} in {tensor.file.name}"


def _floats(read, name, rows: slice, columns: slice) -> np.ndarray:
    part = read(name, rows, columns)
    return part.astype(np.float32) if part.dtype == np.float64 else part  # JAX has no float64 by default


def _empty(place, shape, dtype) -> dict:
    """{device: zeros of the part of a leaf that the device holds}, for the devices of this process."""
    parts = place.addressable_devices_indices_map(shape)
    return {
        device: jnp.zeros([len(range(*s.indices(n))) for s, n in zip(index, shape)], dtype, device=device)
        for device, index in parts.items()
    }


def _fill_leaf(held: dict, place, shape, leaf: hf_names.Leaf, layer: int, read) -> None:
    """Puts one tensor into the buffers of the devices, each part read once however many devices hold it."""
    turned = leaf.kind != hf_names.SAME
    groups: dict[tuple, list] = {}
    for device, index in place.addressable_devices_indices_map(shape).items():
        spans = tuple(s.indices(n)[:2] for s, n in zip(index, shape))
        if leaf.stacked and not spans[0][0] <= layer < spans[0][1]:
            continue
        groups.setdefault(spans, []).append(device)
    for spans, devices in groups.items():
        lead = (layer - spans[0][0],) if leaf.stacked else ()
        inner = spans[1:] if leaf.stacked else spans
        (start, stop), columns = (inner[::-1] if turned else inner)[0], slice(0, 1)
        if len(inner) == 2:
            columns = slice(*(inner[0] if turned else inner[1]))
        width = columns.stop - columns.start
        step = max(1, PART // (4 * width))
        for row in range(start, stop, step):
            part = read(slice(row, min(row + step, stop)), columns)
            offset = (row - start,) if len(inner) == 1 else (0, row - start) if turned else (row - start, 0)
            for device in devices:
                held[device] = _fill(held[device], jax.device_put(part, device), lead + offset, turned=turned)
            jax.block_until_ready([held[device] for device in devices])  # so that no second part waits in memory


@functools.partial(jax.jit, donate_argnums=0, static_argnames="turned")
def _fill(buffer, part, start, *, turned: bool):
    part = (part.T if turned else part).astype(buffer.dtype)
    return jax.lax.dynamic_update_slice(buffer, part.reshape((1,) * (buffer.ndim - part.ndim) + part.shape), start)


def _fill_rounded(kernels: dict, scales: dict, place, shape, leaf: hf_names.Leaf, layer: int, read) -> None:
    """`_fill_leaf` of a kernel as int8. A scale is of all inputs of an output, so whole rows of the file are read also
    where a device holds a part of the inputs. The scales are cut as the kernel's outputs are."""
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


def _check_tied(stored: HfCheckpoint, head: str, table: str) -> None:
    one, other = stored.tensors[head], stored.tensors[table]
    rows, width = other.shape
    step = max(1, PART // (4 * width))
    with stored.reading(one.file) as read_one, stored.reading(other.file) as read_other:
        for row in range(0, rows, step):
            part = slice(row, min(row + step, rows)), slice(0, width)
            if not np.array_equal(read_one(head, *part), read_other(table, *part)):
                raise WeightsError(
                    f"{stored.where}: config.json ties the output projection to the embedding, but {_said(one)} is not "
                    f"equal to {_said(other)}; set tie_word_embeddings to what the checkpoint was trained with"
                )
