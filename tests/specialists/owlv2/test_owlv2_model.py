"""OWLv2 against transformers 5.23 (torch, float32): every output, three models, pictures of odd sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_owlv2
from scipy.special import expit

from dtr1_jax import specialists
from dtr1_jax.specialists.owlv2 import model, weights

torch = pytest.importorskip("torch", reason="compares with the reference model")
SIZES = [(41, 67), (130, 95), (64, 64)]


class Pair:
    """The reference, ours, normalised pixels [3, 3, side, side], token ids [6, l], and all outputs of ours."""

    def __init__(self, name, folder):
        self.reference = small_owlv2.torch_model(name)
        self.owl = specialists.load(small_owlv2.save(self.reference, folder))
        images = [small_owlv2.picture(*size, seed=i) for i, size in enumerate(SIZES)]
        self.pixels = small_owlv2.processor(self.reference)(images=images, return_tensors="np")["pixel_values"]
        limit = self.reference.config.text_config.max_position_embeddings
        tokenizer, settings = small_owlv2.tokenizer(limit), {"padding": "max_length", "return_tensors": "np"}
        self.ids = tokenizer(small_owlv2.PHRASES, truncation=True, **settings)
        spec = self.owl.spec
        pixel_bhwc = jnp.asarray(self.pixels.transpose(0, 2, 3, 1))
        token_nl = jnp.asarray(self.ids["input_ids"], jnp.int32)

        @jax.jit
        def outputs(params):
            got = model.embed_pictures(params, spec, pixel_bhwc)
            queries = model.embed_phrases(params, spec, token_nl)
            asked = jnp.broadcast_to(queries, (len(pixel_bhwc), *queries.shape))
            logits = model.logits(got["embeds"], got["shift"], got["scale"], asked)
            features = model.picture_features(params, spec, pixel_bhwc)
            return got | {"features": features, "queries": queries, "logits": logits}

        self.outputs = lambda params: jax.tree.map(np.asarray, outputs(params))
        self.got = self.outputs(self.owl.params)


@pytest.fixture(scope="module", params=list(small_owlv2.CONFIGS))
def pair(request, tmp_path_factory):
    return Pair(request.param, tmp_path_factory.mktemp(request.param))


def unit(x):
    return x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-6)


def check_equal(ours, wanted):
    differences = {k: float(np.abs(np.asarray(v) - wanted[k].numpy()).max()) for k, v in ours.items()}
    print(differences)
    assert all(d < 1e-4 for d in differences.values()), differences


def test_every_output_of_detection(pair):
    count, got = len(pair.pixels), pair.got
    ids, mask = (torch.tensor(np.tile(pair.ids[k], (count, 1))) for k in ("input_ids", "attention_mask"))
    with torch.no_grad():
        wanted = pair.reference(input_ids=ids, pixel_values=torch.tensor(pair.pixels), attention_mask=mask)
    ours = {
        "logits": got["logits"],
        "objectness_logits": got["objectness"],
        "pred_boxes": got["boxes"],
        "text_embeds": got["queries"][None],
        "image_embeds": got["features"].reshape(wanted.image_embeds.shape),
        "class_embeds": unit(got["embeds"]),
    }
    check_equal(ours, wanted)
    assert wanted.logits.numpy().std() > 0.1 and wanted.pred_boxes.numpy().std() > 0.1  # the outputs vary
    assert np.abs(wanted.text_embeds.numpy()[0, 0] - wanted.text_embeds.numpy()[0, 1]).max() > 0.1


def test_every_output_of_image_guided_detection(pair):
    got = pair.got
    with torch.no_grad():  # the query pictures are the same ones in reverse
        wanted = pair.reference.image_guided_detection(
            torch.tensor(pair.pixels), torch.tensor(pair.pixels[::-1].copy())
        )
    patch = got["objectness"].argmax(-1)[:, None, None]
    query = np.take_along_axis(got["embeds"], patch, 1)[::-1]
    features = got["features"].reshape(wanted.image_embeds.shape)
    ours = {
        "logits": jax.jit(model.logits)(got["embeds"], got["shift"], got["scale"], query),
        "target_pred_boxes": got["boxes"],
        "query_pred_boxes": got["boxes"][::-1],
        "image_embeds": features,
        "query_image_embeds": features[::-1],
        "class_embeds": unit(got["embeds"]),
    }
    check_equal(ours, wanted)


def test_bfloat16_within_a_bound(pair):
    """Scores and boxes move by at most 0.05, and on average by 0.01."""
    half = pair.outputs({name: value.astype(jnp.bfloat16) for name, value in pair.owl.params.items()})
    for name, squash in (("logits", expit), ("boxes", np.asarray), ("objectness", expit)):
        assert half[name].dtype == np.float32
        difference = np.abs(squash(pair.got[name]) - squash(half[name]))
        print(name, difference.max(), difference.mean())
        assert 0 < difference.max() < 0.05 and difference.mean() < 0.01


def test_every_weight_moves_an_output(pair):
    params = pair.owl.params
    assert list(params) == list(weights.shapes(pair.owl.spec))
    rng = np.random.default_rng(0)
    still = []
    for name, value in params.items():
        moved = np.asarray(value) + rng.normal(0, 0.3, value.shape).astype(np.float32)
        after = pair.outputs(params | {name: jax.device_put(moved, value.sharding)})
        change = max(np.abs(after[k] - pair.got[k]).max() for k in ("logits", "boxes", "objectness"))
        if change < 1e-5 and not name.endswith("k_proj.bias"):  # a constant in all scores of a query cancels
            still.append((name, change))
    assert not still


def test_box_bias_is_that_of_the_reference(pair):
    assert np.abs(model.box_bias(pair.owl.spec.grid) - pair.reference.box_bias.numpy()).max() < 1e-5


def test_best_queries_ignore_padding():
    rng = np.random.default_rng(0)
    embeds, queries = rng.normal(size=(2, 9, 8)), rng.normal(size=(2, 4, 8))
    shift, scale = rng.normal(size=(2, 9)), rng.uniform(0.5, 2, (2, 9))
    mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], bool)
    logits = np.asarray(model.logits(embeds, shift, scale, queries))
    best, index = (np.asarray(x) for x in model.best_queries(embeds, shift, scale, queries, mask))
    assert np.allclose(best[0], logits[0, :, :3].max(-1)) and (index[0] == logits[0, :, :3].argmax(-1)).all()
    assert np.allclose(best[1], logits[1, :, 0]) and not index[1].any()
