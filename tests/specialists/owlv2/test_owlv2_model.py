"""OWLv2 against transformers 5.23 (torch, float32): every output, three models, pictures of odd sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_owlv2

from dtr1_jax import specialists
from dtr1_jax.specialists.owlv2 import model, weights

torch = pytest.importorskip("torch", reason="compares with the reference model")
SIZES = [(41, 67), (130, 95), (64, 64)]


def embed(owl, pixels):
    return jax.jit(lambda w, x: model.embed_pictures(w, owl.spec, x))(owl.params, pixels)


def unit(x):
    return x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-6)


@pytest.fixture(scope="module", params=list(small_owlv2.CONFIGS))
def pair(request, tmp_path_factory):
    """The reference, ours, normalised pixels [3, 3, side, side] and token ids [6, l]."""
    reference = small_owlv2.torch_model(request.param)
    owl = specialists.load(small_owlv2.save(reference, tmp_path_factory.mktemp(request.param)))
    images = [small_owlv2.picture(*size, seed=i) for i, size in enumerate(SIZES)]
    pixels = small_owlv2.processor(reference)(images=images, return_tensors="np")["pixel_values"]
    limit = reference.config.text_config.max_position_embeddings
    ids = small_owlv2.tokenizer(limit)(small_owlv2.PHRASES, padding="max_length", return_tensors="np", truncation=True)
    return reference, owl, pixels, ids


def test_every_output_of_detection(pair):
    reference, owl, pixels, ids = pair
    count = len(pixels)
    with torch.no_grad():
        wanted = reference(
            input_ids=torch.tensor(np.tile(ids["input_ids"], (count, 1))), pixel_values=torch.tensor(pixels),
            attention_mask=torch.tensor(np.tile(ids["attention_mask"], (count, 1))),
        )  # fmt: skip
    nhwc = jnp.asarray(pixels.transpose(0, 2, 3, 1))
    got = jax.tree.map(np.asarray, embed(owl, nhwc))
    queries = np.asarray(model.embed_phrases(owl.params, owl.spec, jnp.asarray(ids["input_ids"], jnp.int32)))
    tiled = np.broadcast_to(queries, (count, *queries.shape))
    features = model.picture_features(owl.params, owl.spec, nhwc)
    ours = {
        "logits": model.logits(got["embeds"], got["shift"], got["scale"], tiled),
        "objectness_logits": got["objectness"],
        "pred_boxes": got["boxes"],
        "text_embeds": tiled,
        "image_embeds": np.asarray(features).reshape(wanted.image_embeds.shape),
        "class_embeds": unit(got["embeds"]),
    }
    differences = {k: float(np.abs(np.asarray(v) - wanted[k].numpy()).max()) for k, v in ours.items()}
    print(differences)
    assert all(d < 1e-4 for d in differences.values()), differences
    assert wanted.logits.numpy().std() > 0.1 and wanted.pred_boxes.numpy().std() > 0.1  # the outputs vary
    assert np.abs(wanted.text_embeds.numpy()[0, 0] - wanted.text_embeds.numpy()[0, 1]).max() > 0.1


def test_every_output_of_image_guided_detection(pair):
    reference, owl, pixels, _ = pair
    targets, examples = pixels, pixels[::-1].copy()
    with torch.no_grad():
        wanted = reference.image_guided_detection(torch.tensor(targets), torch.tensor(examples))
    got = jax.tree.map(np.asarray, embed(owl, jnp.asarray(targets.transpose(0, 2, 3, 1))))
    example = jax.tree.map(lambda x: x[::-1], got)  # the query pictures are the same ones in reverse
    query = np.take_along_axis(example["embeds"], example["objectness"].argmax(-1)[:, None, None], 1)
    ours = {
        "logits": np.asarray(model.logits(got["embeds"], got["shift"], got["scale"], query)),
        "target_pred_boxes": got["boxes"],
        "query_pred_boxes": example["boxes"],
        "class_embeds": unit(got["embeds"]),
    }
    differences = {k: float(np.abs(v - wanted[k].numpy()).max()) for k, v in ours.items()}
    print(differences)
    assert all(d < 1e-4 for d in differences.values()), differences


def test_bfloat16_within_a_bound(pair):
    """Scores and boxes move by at most 0.15, and on average by 0.02, with weights of a random model in bfloat16."""
    _, owl, pixels, ids = pair
    half = {name: value.astype(jnp.bfloat16) for name, value in owl.params.items()}
    nhwc = jnp.asarray(pixels.transpose(0, 2, 3, 1))
    results = []
    for params in (owl.params, half):
        got = model.embed_pictures(params, owl.spec, nhwc)
        assert all(x.dtype == jnp.float32 for x in got.values())
        queries = model.embed_phrases(params, owl.spec, jnp.asarray(ids["input_ids"], jnp.int32))
        tiled = jnp.broadcast_to(queries, (len(pixels), *queries.shape))
        results.append((jax.nn.sigmoid(model.logits(got["embeds"], got["shift"], got["scale"], tiled)), got["boxes"]))
    for full, coarse in zip(*results):
        difference = np.abs(np.asarray(full) - np.asarray(coarse))
        print(difference.max(), difference.mean())
        assert 0 < difference.max() < 0.15 and difference.mean() < 0.02


def test_every_weight_moves_an_output(pair):
    _, owl, pixels, ids = pair
    assert list(owl.params) == list(weights.shapes(owl.spec))
    nhwc, tokens = jnp.asarray(pixels[:1].transpose(0, 2, 3, 1)), jnp.asarray(ids["input_ids"], jnp.int32)

    @jax.jit
    def outputs(params):
        got = model.embed_pictures(params, owl.spec, nhwc)
        queries = model.embed_phrases(params, owl.spec, tokens)[None]
        return model.logits(got["embeds"], got["shift"], got["scale"], queries), got["boxes"], got["objectness"]

    before = outputs(owl.params)
    rng = np.random.default_rng(0)
    still = []
    for name, value in owl.params.items():
        moved = value + jnp.asarray(rng.normal(0, 0.3, value.shape), jnp.float32)
        after = outputs(owl.params | {name: moved})
        change = max(float(jnp.abs(a - b).max()) for a, b in zip(after, before))
        if change < 1e-5 and not name.endswith("k_proj.bias"):  # a constant in all scores of a query cancels
            still.append((name, change))
    assert not still


def test_box_bias_is_that_of_the_reference(pair):
    reference, owl, _, _ = pair
    assert np.abs(model.box_bias(owl.spec.grid) - reference.box_bias.numpy()).max() < 1e-5
