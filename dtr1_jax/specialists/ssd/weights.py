"""The weights of an SSDLite-MobileNetV2 graph by their names in the graph: convolutions are [h, w, in, out], and
depthwise ones [h, w, channels, 1]."""

from __future__ import annotations

from dtr1_jax.specialists.ssd.spec import ANCHORS, BODY, HEAD, SsdSpec, block_name, extra_names

# Numbers of the graph: pictures are scaled to pixel * mul - sub, and codes of boxes are divided by 10 and by 5.
SCALE, SHIFT = "Preprocessor/mul/x", "Preprocessor/sub/y"
CENTRE, SIZE = "ConstantFolding/Postprocessor/Decode/div_recip", "ConstantFolding/Postprocessor/Decode/div_2_recip"
HALF = "ConstantFolding/Postprocessor/Decode/div_4_recip"


def shapes(spec: SsdSpec) -> dict[str, tuple[int, ...]]:
    """The shape of every float weight of the graph, by name."""
    out: dict[str, tuple[int, ...]] = dict.fromkeys((SCALE, SHIFT, CENTRE, SIZE, HALF), ())
    out[ANCHORS] = (1, spec.anchors, 4)

    def conv(name: str, kernel: int, inputs: int, outputs: int) -> None:
        out[f"{name}/Conv2D/merged_input"] = (kernel, kernel, inputs, outputs)
        out[f"{name}/BatchNorm/batchnorm/sub"] = (outputs,)

    def depthwise(name: str, channels: int) -> None:
        out[f"{name}/depthwise_weights"] = (3, 3, channels, 1)
        out.update({f"{name}/BatchNorm/batchnorm/{part}": (channels,) for part in ("mul", "sub")})

    conv(f"{BODY}/Conv", 3, 3, spec.stem)
    inputs = spec.stem
    for i, (expanded, outputs) in enumerate(spec.blocks):
        name = block_name(i)
        if i:
            conv(f"{name}/expand", 1, inputs, expanded)
        depthwise(f"{name}/depthwise", expanded)
        conv(f"{name}/project", 1, expanded, outputs)
        inputs = outputs
    conv(f"{BODY}/Conv_1", 1, inputs, spec.last)
    inputs = spec.last
    for i, (inner, outputs) in enumerate(spec.extras):
        first, second = extra_names(i, spec)
        conv(first, 1, inputs, inner)
        depthwise(f"{second}_depthwise", inner)
        conv(second, 1, inner, outputs)
        inputs = outputs
    for i, (channels, count) in enumerate(zip(spec.map_channels, spec.boxes)):
        for kind, numbers in (("BoxEncoding", 4), ("Class", spec.classes + 1)):
            name = f"{HEAD}{i}/{kind}Predictor"
            out[f"{name}_depthwise/depthwise_weights"] = (3, 3, channels, 1)
            for part in ("gamma", "beta", "moving_mean", "moving_variance"):
                out[f"{name}_depthwise/BatchNorm/{part}"] = (channels,)
            out[f"{name}/weights"] = (1, 1, channels, count * numbers)
            out[f"{name}/biases"] = (count * numbers,)
    return out
