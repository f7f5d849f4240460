"""Specs: sizes that do not fit are refused, and config.json files become specs."""

import copy
import dataclasses

import jax
import pytest

from dtr1_jax.models import policy, spec


def size(shape: spec.Spec) -> int:
    params = jax.eval_shape(lambda: policy.init(jax.random.key(0), shape))
    return sum(x.size for x in jax.tree.leaves(params))


def test_tiny_has_at_most_5_million_parameters():
    assert 1_000_000 < size(spec.TINY) <= 5_000_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_heads": 4}, "heads = 6 is not a multiple of kv_heads = 4"),
        ({"sections": (6, 5, 4)}, r"sections \(6, 5, 4\) must sum to head_dim / 2 = 16"),
        ({"head_dim": 31, "sections": None}, "head_dim = 31 is odd"),
    ],
)
def test_decoder_sizes_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(spec.TINY, **changes)


def test_tower_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="vision width = 128 is not a multiple of 4 x heads = 12"):
        dataclasses.replace(spec.TINY.vision, heads=3)


def test_values_of_a_patch():
    tower = spec.VisionSpec(width=16, layers=1, heads=2, hidden=16, patch=14, temporal_patch=2)
    assert tower.values == 3 * 2 * 14 * 14


def test_specs_are_hashable_and_equal_by_value():
    """They are static arguments of jit: equal ones share a compilation."""
    twin = dataclasses.replace(spec.TINY)
    assert twin == spec.TINY and hash(twin) == hash(spec.TINY)
    assert dataclasses.replace(spec.TINY, eps=1e-5) != spec.TINY


@pytest.mark.parametrize("changes", [{"tied": False}, {"qkv_bias": True}, {"qk_norm": False}, {"vision": None}])
def test_options_decide_which_weights_there_are(changes):
    def names(shape):
        params = jax.eval_shape(lambda: policy.init(jax.random.key(0), shape))
        return {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}

    added = names(dataclasses.replace(spec.TINY, **changes)) - names(spec.TINY)
    gone = names(spec.TINY) - names(dataclasses.replace(spec.TINY, **changes))
    wanted = {
        "tied": ({"['head']['kernel']"}, set()),
        "qkv_bias": ({f"['decoder']['{n}']['bias']" for n in "qkv"}, set()),
        "qk_norm": (set(), {f"['decoder']['{n}_norm']['scale']" for n in "qk"}),
        "vision": (set(), {n for n in names(spec.TINY) if n.startswith("['vision']")}),
    }
    assert (added, gone) == wanted[next(iter(changes))]


SMOLLM2 = {  # as on the hub
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "hidden_act": "silu", "hidden_size": 576,
    "intermediate_size": 1536, "mlp_bias": False, "model_type": "llama", "num_attention_heads": 9,
    "num_hidden_layers": 30, "num_key_value_heads": 3, "rms_norm_eps": 1e-05, "rope_interleaved": False,
    "rope_scaling": None, "rope_theta": 100000, "tie_word_embeddings": True, "vocab_size": 49152,
}  # fmt: skip
FLAT = {  # Qwen2.5-VL in the manner of the hub: the decoder's sizes at the top
    "architectures": ["Qwen2_5_VLForConditionalGeneration"], "hidden_act": "silu", "hidden_size": 64,
    "intermediate_size": 96, "model_type": "qwen2_5_vl", "num_attention_heads": 4, "num_hidden_layers": 3,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1e6, "sliding_window": 32768,
    "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 96, "max_window_layers": 70,
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    "vision_config": {
        "depth": 4, "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 40, "num_heads": 2, "in_chans": 3,
        "out_hidden_size": 64, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14, "window_size": 112,
        "fullatt_block_indexes": [1, 3], "tokens_per_second": 2, "temporal_patch_size": 2,
    },
}  # fmt: skip
TOWER = {name: value for name, value in FLAT["vision_config"].items() if name != "window_size"}
NESTED = {  # Qwen3-VL
    "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "tie_word_embeddings": False,
    "text_config": {
        "attention_bias": False, "head_dim": 32, "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96,
        "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [8, 4, 4], "rope_type": "default"},
        "rope_theta": 5000000, "vocab_size": 96,
    },
    "vision_config": {
        "deepstack_visual_indexes": [1, 2], "depth": 4, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 32,
        "in_channels": 3, "intermediate_size": 40, "num_heads": 2, "num_position_embeddings": 2304,
        "out_hidden_size": 64, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2,
    },
}  # fmt: skip


def test_spec_of_a_llama_shaped_checkpoint():
    assert spec.from_hf(SMOLLM2) == spec.Spec(
        vocab=49152, width=576, layers=30, heads=9, kv_heads=3, head_dim=64, hidden=1536, theta=1e5, qk_norm=False,
        tied=True, eps=1e-5,
    )  # fmt: skip


def test_spec_of_qwen2_5_vl():
    assert spec.from_hf(FLAT) == spec.Spec(
        vocab=96, width=64, layers=3, heads=4, kv_heads=2, head_dim=16, hidden=96, theta=1e6, sections=(2, 3, 3),
        interleaved=False, qk_norm=False, qkv_bias=True, tied=True, frame="pixel",
        vision=spec.VisionSpec(
            width=32, layers=4, heads=2, hidden=40, patch=14, temporal_patch=2, merge=2, side=0, norm="rms", gated=True,
            patch_bias=False, window=4, full_layers=(1, 3), tokens_per_second=2.0,
        ),
    )  # fmt: skip


def test_spec_of_qwen3_vl():
    assert spec.from_hf(NESTED) == spec.Spec(
        vocab=96, width=64, layers=3, heads=4, kv_heads=2, head_dim=32, hidden=96, theta=5e6, sections=(8, 4, 4),
        tied=False, vision=spec.VisionSpec(width=32, layers=4, heads=2, hidden=40, side=48, deepstack=(1, 2)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("config", "path", "value", "message"),
    [
        (SMOLLM2, "model_type", "mamba", r"model_type 'mamba' is not supported; expected one of llama, qwen2"),
        (SMOLLM2, "model_type", None, "model_type None"),
        (SMOLLM2, "dtr1_frame", "inch", "dtr1_frame = 'inch' is not supported; expected 'norm1000' or 'pixel'"),
        (SMOLLM2, "model_type", ["llama"], r"model_type \['llama'\] is not supported; expected one of llama, qwen2"),
        (SMOLLM2, "architectures", 5, "architectures: expected a list of names, got 5"),
        (SMOLLM2, "architectures", [None], r"architectures: expected a list of names, got \[None\]"),
        (SMOLLM2, "architectures", ["LlamaForSequenceClassification"], "does not generate text"),
        (
            SMOLLM2,
            "rope_scaling",
            {"rope_type": "longrope"},
            "rope_scaling.rope_type = 'longrope' is not supported; exp",
        ),
        (SMOLLM2, "rope_scaling", {"type": "su"}, r"rope_scaling\.type = 'su' is not supported"),
        (SMOLLM2, "rope_scaling", {"type": "mrope"}, r"rope_scaling\.type = 'mrope' is not supported"),
        (SMOLLM2, "rope_scaling", "linear", "rope_scaling: expected an object, got 'linear'"),
        (SMOLLM2, "rope_theta", -1, "rope_theta: expected a positive number, got -1"),
        (SMOLLM2, "rms_norm_eps", "small", "rms_norm_eps: expected a positive number, got 'small'"),
        (SMOLLM2, "rms_norm_eps", 10**400, "rms_norm_eps: expected a positive number, got 1000"),
        (SMOLLM2, "hidden_act", "gelu", "hidden_act = 'gelu' is not supported; expected 'silu'"),
        (SMOLLM2, "attention_bias", "yes", "attention_bias: expected true or false, got 'yes'"),
        (SMOLLM2, "mlp_bias", 1, "mlp_bias: expected true or false, got 1"),
        (FLAT, "attention_bias", False, "attention_bias = False is not supported; expected True"),
        (FLAT, "mlp_bias", True, "mlp_bias = True is not supported; expected False"),
        (NESTED, "text_config.mlp_bias", True, "mlp_bias = True is not supported; expected False"),
        (SMOLLM2, "use_sliding_window", True, "use_sliding_window = True"),
        (SMOLLM2, "use_sliding_window", "no", "use_sliding_window: expected true or false, got 'no'"),
        (SMOLLM2, "max_window_layers", 1.5, "max_window_layers: expected a whole number, got 1.5"),
        (SMOLLM2, "sliding_window", "all", "sliding_window: expected a positive integer, got 'all'"),
        (SMOLLM2, "layer_types", ["full_attention"], r"layer_types: expected 30 names \(num_hidden_layers\), got 1"),
        (SMOLLM2, "layer_types", ["mamba"] * 30, r"expected full_attention everywhere, got \['mamba'\]"),
        (SMOLLM2, "layer_types", ["full_attention", "sliding_attention"], "expected full_attention everywhere"),
        (SMOLLM2, "layer_types", 7, "layer_types: expected a list of names, got 7"),
        (NESTED, "text_config.layer_types", [["full_attention"]], r"layer_types: expected a list of names, got \[\["),
        (SMOLLM2, "quantization_config", {"quant_method": "fp8"}, "quantization_config"),
        (SMOLLM2, "vocab_size", None, "vocab_size: expected a positive integer, got None"),
        (SMOLLM2, "num_hidden_layers", 3.5, "num_hidden_layers: expected a positive integer, got 3.5"),
        (SMOLLM2, "num_key_value_heads", 4, "the sizes do not fit: heads = 9 is not a multiple of kv_heads = 4"),
        (SMOLLM2, "num_hidden_layers", 10**9, r"num_hidden_layers: expected at most 10,000 layers, got 1000000000"),
        (NESTED, "vision_config.depth", 10_001, r"vision_config\.depth: expected at most 10,000 layers, got 10001"),
        (FLAT, "rope_scaling", None, r"rope_scaling\.mrope_section: expected three integers from 0 on, got None"),
        (FLAT, "rope_scaling.mrope_section", [10, -1, -1], r"three integers from 0 on, got \[10, -1, -1\]"),
        (FLAT, "rope_scaling.mrope_section", [2, 3, True], r"three integers from 0 on, got \[2, 3, True\]"),
        (FLAT, "rope_scaling.mrope_section", [2, 3, 4], r"sections \(2, 3, 4\) must sum to head_dim / 2 = 8"),
        (FLAT, "vision_config", None, "vision_config: expected the tower's sizes, got None"),
        (FLAT, "vision_config.window_size", 27, "window_size = 27 is less than a token's 28"),
        (FLAT, "vision_config", {**TOWER, "patch_size": 64}, "window_size = 112 is less than a token's 128"),
        (FLAT, "vision_config.fullatt_block_indexes", [3, 4], r"full_layers = \(3, 4\): expected increasing numbers"),
        (FLAT, "vision_config.out_hidden_size", 32, "out_hidden_size = 32 is not the decoder's hidden_size = 64"),
        (FLAT, "vision_config.hidden_act", "quick_gelu", r"vision_config\.hidden_act = 'quick_gelu'"),
        (NESTED, "text_config.rope_scaling.mrope_interleaved", False, "mrope_interleaved = False"),
        (NESTED, "text_config", [1], r"text_config: expected an object, got \[1\]"),
        (
            NESTED,
            "vision_config.deepstack_visual_indexes",
            [2, 1],
            r"deepstack = \(2, 1\): expected increasing numbers",
        ),
        (NESTED, "vision_config.num_position_embeddings", 2305, "2305 is not a square"),
        (NESTED, "text_config.num_hidden_layers", 1, "2 DeepStack levels do not fit into 1 layers"),
    ],
)
def test_config_that_can_not_be_run(config, path, value, message):
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    inner = config
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    with pytest.raises(spec.SpecError, match=message):
        spec.from_hf(config)


QWEN2 = SMOLLM2 | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "num_hidden_layers": 4}
del QWEN2["attention_bias"]
WINDOW = {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {"sliding_window": 100, "max_window_layers": 0},  # use_sliding_window is false by default
        {"sliding_window": 100, "use_sliding_window": False},
        WINDOW | {"max_window_layers": 4},
        WINDOW | {"max_window_layers": 70},
        WINDOW | {"max_window_layers": None},  # 28 by default
        WINDOW | {"sliding_window": None},
        WINDOW | {"layer_types": ["full_attention"] * 4},
    ],
)
def test_a_window_that_no_layer_uses(changes):
    assert spec.from_hf(QWEN2 | changes) == spec.from_hf(QWEN2)


@pytest.mark.parametrize(
    "changes", [{}, {"layer_types": ["full_attention", "sliding_attention"] * 2}, {"max_window_layers": -1}]
)
def test_a_window_that_a_layer_uses_must_hold_the_whole_sequence(changes):
    values = QWEN2 | WINDOW | changes
    field = "layer_types" if "layer_types" in changes else "use_sliding_window"
    for reach, words in ((None, "windows are not implemented"), (101, "less than the 101 tokens of a prompt")):
        with pytest.raises(spec.SpecError, match=f"{field}.*{words}"):
            spec.from_hf(values, reach)
    assert spec.from_hf(values, 100) == dataclasses.replace(spec.from_hf(QWEN2), window=100)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (SMOLLM2, (False, False, False)),
        (SMOLLM2 | {"attention_bias": True}, (True, True, False)),
        (SMOLLM2 | {"mlp_bias": True}, (False, False, True)),
        (QWEN2, (True, False, False)),
        (QWEN2 | {"model_type": "qwen3", "attention_bias": True}, (True, True, False)),
        (FLAT, (True, False, False)),
        (NESTED | {"text_config": NESTED["text_config"] | {"attention_bias": True}}, (True, True, False)),
    ],
)
def test_biases(values, expected):
    shape = spec.from_hf(values)
    assert (shape.qkv_bias, shape.out_bias, shape.mlp_bias) == expected
