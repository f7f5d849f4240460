"""MobileSAM equals a reference in PyTorch: small models with random weights, and the released weights."""

import dataclasses

import assets
import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference model needs torch: pip install -e '.[parity]'")

import sam_models  # noqa: E402
import scripts  # noqa: E402

from dtr1_jax import specialists  # noqa: E402
from dtr1_jax.specialists.sam import square  # noqa: E402
from dtr1_jax.specialists.sam.spec import MOBILE_SAM, TinyVitSpec  # noqa: E402

reference = scripts.load_script("experiments/specialists/mobile_sam_torch.py")
SMALL = {
    # maps of 16, 8, 4, 4: windows that divide them, that do not, and that are larger
    "three sizes": dataclasses.replace(
        MOBILE_SAM, encoder=TinyVitSpec((8, 12, 16, 24), (1, 1, 2, 1), (1, 3, 2, 4), (7, 4, 3, 7)), image=64, grid=4,
        width=16, mask_channels=4, heads=2, mlp=24, iou_width=12,
    ),
    # a map of exactly one window, three stages
    "one window": dataclasses.replace(
        MOBILE_SAM, encoder=TinyVitSpec((12, 8, 16), (2, 1, 1), (1, 2, 1), (1, 6, 5), (2, 1), 3), image=48, grid=6,
        width=24, mask_channels=8, heads=3, mlp=8, iou_width=8, masks=2, iou_layers=3,
    ),
    "two stages": dataclasses.replace(
        MOBILE_SAM, encoder=TinyVitSpec((16, 20), (1, 2), (1, 5), (1, 2), (1,), 2), image=20, grid=5, width=32,
        heads=4, mlp=16, iou_width=8, layers=1, eps=1e-3,
    ),
}  # fmt: skip
SIZES = [(37, 61), (64, 33), (120, 50)]
RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (h, w, 3), np.uint8) for h, w in SIZES]
BOXES = np.array([[0.1, 0.2, 0.7, 0.9], [0.3, 0.4, 0.6, 0.5]], np.float32)


def state(model) -> dict:
    """The weights of the reference by the names of mobile_sam.pt, with what that file has besides."""

    def old_name(name):
        name = name.replace("shared_image_embedding.positional_embedding",
                            "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix")  # fmt: skip
        for a, b in ((".point_embed.", ".point_embeddings."), ("mask_embed.conv1", "mask_downscaling.0"),
                     ("mask_embed.layer_norm1", "mask_downscaling.1"), ("mask_embed.conv2", "mask_downscaling.3"),
                     ("mask_embed.layer_norm2", "mask_downscaling.4"), ("mask_embed.conv3", "mask_downscaling.6"),
                     ("layer_norm_final_attn", "norm_final_attn"), ("upscale_conv1", "output_upscaling.0"),
                     ("upscale_layer_norm", "output_upscaling.1"),
                     ("upscale_conv2", "output_upscaling.3")):  # fmt: skip
            name = name.replace(a, b)
        if "transformer.layers" in name:
            name = name.replace(".layer_norm", ".norm")
        if "hypernetworks" in name or "iou_prediction_head" in name:
            name = name.replace(".layers.0.", ".layers.1.").replace(".proj_in.", ".layers.0.")
            name = name.replace(".proj_out.", ".layers.2.")
        return name

    own = {f"image_encoder.{n}": x for n, x in model.encoder.state_dict().items()}
    width = model.sizes.encoder.dims[-1]
    own |= {"image_encoder.norm_head.weight": torch.ones(width), "image_encoder.norm_head.bias": torch.zeros(width),
            "image_encoder.head.weight": torch.zeros(7, width), "image_encoder.head.bias": torch.zeros(7)}  # fmt: skip
    for name, x in model.sam.state_dict().items():
        if not name.startswith("vision_encoder.") and "shared_embedding" not in name:
            own[old_name(name)] = x.clone()
    return own


@pytest.fixture(scope="module", params=SMALL)
def pair(request, tmp_path_factory):
    """A reference with random weights, and our model from its checkpoint, which torch wrote."""
    model = reference.MobileSam(SMALL[request.param])
    sam_models.randomise(model, 1)
    file = tmp_path_factory.mktemp("mobile") / "small.pt"
    torch.save(state(model), file)
    model.load(torch.load(file, weights_only=True))
    return model, specialists.load(file, sizes=SMALL[request.param])


def compare(model, sam, image, boxes, atol, logit_atol):
    """Compares embeddings, expected IoU, logits and masks from boxes and from a click."""
    height, width = image.shape[:2]
    side = model.sizes.image
    pixels, (rows, columns) = square.squared(image, side)
    expected = model.embed(torch.tensor(pixels), int(rows), int(columns))
    cells = sam.embed([image])[0]
    np.testing.assert_allclose(cells, expected[0].flatten(1).T.numpy(), atol=atol)
    assert cells.std() > 0.05
    box = torch.tensor(square.to_pixels(boxes.reshape(-1, 2, 2), height, width, side)).reshape(-1, 4)
    click = (box[:, None, :2] + box[:, None, 2:]) / 2
    found = {
        "box": sam.segment([image], boxes=[boxes])[0],
        "click": sam.segment([image], points=[(boxes[:, None, :2] + boxes[:, None, 2:]) / 2])[0],
    }
    for kind, (logits, iou) in {
        "box": model.segment(expected, boxes=box), "click": model.segment(expected, points=click, multimask=True)
    }.items():  # fmt: skip
        best = torch.arange(len(iou)), iou.argmax(1)
        np.testing.assert_allclose(found[kind].scores, iou[best].numpy(), atol=1e-4)
        np.testing.assert_allclose(found[kind].logits, logits[best].numpy(), atol=logit_atol)
        masks = model.to_masks(logits[best], (height, width), int(rows), int(columns)).numpy()
        assert (found[kind].masks != masks).mean() < 1e-4
    return found


def test_equals_the_reference(pair):
    for image in IMAGES:
        compare(*pair, image, BOXES, 1e-4, 1e-3)


@pytest.mark.parametrize("pair", ["three sizes"], indirect=True)
def test_each_weight_moves_the_embedding(pair):
    _, sam = pair
    image, size = square.squared(IMAGES[0], sam.spec.image)
    plain = np.asarray(sam._embed(sam.params, image[None], size[None]))
    encoder = [name for name in sam.params if name.startswith("image_encoder.")]
    assert len(encoder) > 50
    for name in encoder:
        value = sam.params[name]
        noise = abs(RNG.normal(0, 0.3, value.shape)).astype(value.dtype)
        other = jax.device_put(np.asarray(value) + noise, value.sharding)  # placed like it, so that nothing compiles
        moved = np.asarray(sam._embed(sam.params | {name: other}, image[None], size[None]))
        assert np.abs(moved - plain).max() > 1e-4, name


def test_released_weights():
    """Largest differences measured: embeddings 3e-6, expected IoU 8e-7, logits 1.3e-3."""
    file = assets.path("weights/mobile_sam.pt")
    model = reference.MobileSam()
    model.load(torch.load(file, map_location="cpu", weights_only=True))
    sam = specialists.load(file)
    image = np.kron(RNG.integers(0, 256, (8, 11, 3)), np.ones((40, 50, 1))).astype(np.uint8)[:301, :517]
    found = compare(model, sam, image, BOXES, 1e-4, 5e-3)
    assert all(masks.masks.any((1, 2)).all() for masks in found.values())
