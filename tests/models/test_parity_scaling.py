"""Scaled rotary positions and biases against transformers: logits beyond the original length, greedy tokens, files."""

import functools
import json

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference models need torch: pip install -e '.[parity]'")
import parity  # noqa: E402, needs torch

from dtr1_jax.models import policy  # noqa: E402
from dtr1_jax.models.weights import exporting, hf_checkpoint, hf_names, loading, native  # noqa: E402
from dtr1_jax.rl import rollout  # noqa: E402

SCALINGS = {  # the original length is 16; the prompts have up to 44 tokens
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "yarn, all fields": {
        "rope_type": "yarn", "factor": 2.5, "original_max_position_embeddings": 24, "mscale": 0.7,
        "mscale_all_dim": 1.4, "beta_fast": 4.0, "beta_slow": 0.5, "truncate": False,
    },
}  # fmt: skip
FAMILIES = ("llama", "qwen2", "qwen3", "qwen2_5_vl", "qwen3_vl")
TEXT_SCENES = {"short": (5, 17, 60), "at the limit": tuple(range(30, 46)), "long": tuple(range(3, 43))}
VISION_SCENES = {"picture": parity.SCENES["not square"], "slow video": (3, ("video", (4, 1, 2), 40.0), 8, 14, 40, 2)}


def sizes(family, base=0, **text):
    """CONFIGS[family][base] with other fields of the decoder, and 16 positions of pretraining."""
    values = parity.CONFIGS[family][base]
    inner = values.get("text_config", values)
    rope = inner.get("rope_parameters", {"rope_type": "default", "rope_theta": 1e4}) | text.pop("rope", {})
    inner = inner | {"rope_parameters": rope, "max_position_embeddings": 16, "tie_word_embeddings": False} | text
    return values | {"text_config": inner, "tie_word_embeddings": False} if "text_config" in values else inner


@pytest.fixture
def model(monkeypatch):
    """A function that puts new sizes among those of the family, under a name."""

    def add(family, name, values):
        known = parity.CONFIGS[family]
        known = dict(enumerate(known)) if isinstance(known, list) else known
        monkeypatch.setitem(parity.CONFIGS, family, known | {name: values})

    return add


def compare(family, name, scenes, atol=1e-4):
    """Logits after every token of every scene against a fresh model of transformers; returns the largest difference."""
    rows = [parity.row(family, name, scene, seed) for seed, scene in enumerate(scenes.values())]
    prompt = parity.prompt(family, name, rows)
    got = np.asarray(parity.prompt_logits(parity.params(family, name), prompt, spec=parity.shape(family, name)))
    worst = 0.0
    for i, row in enumerate(rows):
        wanted = parity.torch_logits(family, name, row)
        assert np.abs(wanted).max() > 0.5
        np.testing.assert_allclose(got[i][prompt.mask_bp[i]], wanted, atol=atol, rtol=0, err_msg=list(scenes)[i])
        worst = max(worst, np.abs(got[i][prompt.mask_bp[i]] - wanted).max())
    return worst


def scenes(family):
    return TEXT_SCENES | (VISION_SCENES if family in parity.VISION else {})


@pytest.mark.parametrize("kind", SCALINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_with_scaled_positions(family, kind, model):
    name = f"scaled {kind}"
    model(family, name, sizes(family, 2, rope=SCALINGS[kind]))
    assert parity.shape(family, name).rotary.kind == SCALINGS[kind]["rope_type"]
    compare(family, name, scenes(family))


GREEDY = [("llama", kind) for kind in ("dynamic", "llama3", "yarn, all fields")]


@pytest.mark.parametrize(("family", "kind"), [*GREEDY, ("qwen2_5_vl", "dynamic"), ("qwen2_5_vl", "yarn")])
def test_greedy_tokens_with_scaled_positions(family, kind, model):
    """Prompts below and above the original length. With "dynamic", each decode step has frequencies of its own."""
    name = f"greedy {kind}"
    model(family, name, sizes(family, 2, rope=SCALINGS[kind]))
    rows = [parity.row(family, name, scene, seed) for seed, scene in enumerate(scenes(family).values())]
    prompt, spec = parity.prompt(family, name, rows, resume="end"), parity.shape(family, name)
    params = parity.params(family, name)
    drawn = rollout.sample(
        params, None, prompt, jax.random.key(0), None, spec=spec, group=2, new_tokens=48, end=-1, pad=0, temperature=0.0
    )
    different = set()
    for i, row in enumerate(rows):
        parity.torch_model.cache_clear()  # With "dynamic", a model keeps the frequencies of its longest text so far.
        wanted = parity.generate(family, name, row, 48, "end")
        different |= set(wanted.tolist())
        np.testing.assert_array_equal(drawn.token_bgs[i, 1], wanted, err_msg=list(scenes(family))[i])
    assert len(different) > 6
    score = jax.jit(
        lambda params, prompt, token: policy.logprobs(
            params, None, spec, policy.prefill(params, None, spec, prompt), token
        )
    )
    np.testing.assert_allclose(score(params, prompt, drawn.token_bgs), drawn.logp_bgs, atol=1e-4)


@pytest.mark.parametrize("kind", ["dynamic", "llama3", "yarn"])
def test_logits_at_far_positions(kind, model):
    """Positions 3,000 to 3,016, where an error of a frequency shows 3,000 times."""
    name, scene = f"far {kind}", tuple(range(3, 19))
    model("llama", name, sizes("llama", 2, rope=SCALINGS[kind]))
    row = parity.row("llama", name, scene)
    prompt = parity.prompt("llama", name, [row])
    moved = prompt.__class__(**{**vars(prompt), "position_bp3": prompt.position_bp3 + 3000})
    got = np.asarray(parity.prompt_logits(parity.params("llama", name), moved, spec=parity.shape("llama", name)))
    at = torch.arange(3000, 3000 + len(scene))[None]
    with torch.no_grad():
        wanted = parity.torch_model("llama", name)(**row.inputs, position_ids=at).logits[0].numpy()
    np.testing.assert_allclose(got[0][moved.mask_bp[0]], wanted, atol=3e-4, rtol=0)


BIASES = [  # family, fields, new leaves
    ("llama", {"attention_bias": True}, ["q", "k", "v", "o"]),
    ("llama", {"mlp_bias": True}, ["gate", "up", "down"]),
    ("llama", {"attention_bias": True, "mlp_bias": True}, ["q", "k", "v", "o", "gate", "up", "down"]),
    ("qwen3", {"attention_bias": True}, ["q", "k", "v", "o"]),
    ("qwen3_vl", {"attention_bias": True}, ["q", "k", "v", "o"]),
]


@pytest.mark.parametrize(("family", "fields", "leaves"), BIASES)
def test_biases(family, fields, leaves, model, tmp_path):
    name = f"biases {len(leaves)}"
    model(family, name, sizes(family, 1, **fields, max_position_embeddings=4096))
    params, spec = parity.params(family, name), parity.shape(family, name)
    flat = native.flatten(params)
    assert sorted(n for n in flat if n.startswith("decoder/") and n.endswith("/bias")) == sorted(
        f"decoder/{n}/bias" for n in leaves
    )
    compare(family, name, scenes(family))
    rows = [parity.row(family, name, TEXT_SCENES["long"])]
    prompt = parity.prompt(family, name, rows)
    before = np.asarray(parity.prompt_logits(params, prompt, spec=spec))
    rng = np.random.default_rng(0)
    for leaf in (f"decoder/{n}/bias" for n in leaves):
        for layer in range(spec.layers):
            changed = np.array(flat[leaf])
            # an equal shift of all keys changes no softmax, except through the rotary turn
            changed[layer] += 3 * rng.standard_normal(changed[layer].shape).astype(np.float32)
            after = parity.prompt_logits(native.unflatten(flat | {leaf: changed}), prompt, spec=spec)
            assert np.abs(np.asarray(after) - before)[prompt.mask_bp].max() > 1e-3, (leaf, layer)
    round_trip(family, name, params, tmp_path)


@functools.cache
def _one_device():
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])


def round_trip(family, name, params, folder):
    """Exported, the tensors are those of transformers bit by bit; loaded again they are ours bit by bit."""
    reference = parity.torch_model(family, name)
    config = reference.config.to_dict()
    exporting.write_folder(folder, exporting.tensors(params, None, 1.0, config), "float32")
    (folder / "config.json").write_text(json.dumps(config, default=str))
    checkpoint = hf_checkpoint.open_folder(folder)
    shapes = jax.eval_shape(lambda: policy.init(jax.random.key(0), parity.shape(family, name)))
    loaded = loading.load_weights(checkpoint, shapes, jax.tree.map(lambda _: _one_device(), shapes))
    for path, leaf in native.flatten(params).items():
        np.testing.assert_array_equal(native.flatten(loaded)[path], leaf, err_msg=path)
    again, report = type(reference).from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    tensors = {hf_names.canonical(n, family): p for n, p in reference.state_dict().items()}
    for tensor_name, tensor in again.state_dict().items():
        assert torch.equal(tensor, tensors[hf_names.canonical(tensor_name, family)]), tensor_name


def test_loading_names_a_missing_bias(model, tmp_path):
    """A checkpoint without the biases that its config.json promises, and one with biases too many."""
    model("llama", "plain", sizes("llama", 1))
    model("llama", "biased", sizes("llama", 1, attention_bias=True))
    place = _one_device()
    for stored, wanted, message in (
        ("plain", "biased", r"missing model\.layers\.0\.self_attn\.\w_proj\.bias"),
        ("biased", "plain", r"left over model\.layers\.0\.self_attn\.\w_proj\.bias"),
    ):
        folder = tmp_path / stored
        folder.mkdir()
        config = parity.torch_model("llama", wanted).config.to_dict()
        exporting.write_folder(folder, exporting.tensors(parity.params("llama", stored), None, 1.0, config), "float32")
        (folder / "config.json").write_text(json.dumps(config, default=str))
        shapes = jax.eval_shape(lambda w=wanted: policy.init(jax.random.key(0), parity.shape("llama", w)))
        with pytest.raises(native.WeightsError, match=message):
            loading.load_weights(hf_checkpoint.open_folder(folder), shapes, jax.tree.map(lambda _: place, shapes))
