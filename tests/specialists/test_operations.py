"""Shared layers equal PyTorch's."""

import jax
import numpy as np
import pytest

from dtr1_jax.specialists import operations

torch = pytest.importorskip("torch", reason="torch is the reference; pip install -e '.[parity]'")
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def channels_last(x):
    return x.transpose(0, 2, 3, 1)


def check(found, wanted, atol=2e-5):
    np.testing.assert_allclose(found, wanted.numpy(), atol=atol)


def t(x):
    return torch.from_numpy(np.ascontiguousarray(x))


def test_linear_and_norm():
    w = {"a.weight": normal(4, 6), "a.bias": normal(4), "n.weight": normal(6), "n.bias": normal(6)}
    x = normal(3, 5, 6)
    check(operations.linear(w, "a", x), torch.nn.functional.linear(t(x), t(w["a.weight"]), t(w["a.bias"])))
    check(operations.linear({"a.weight": w["a.weight"]}, "a", x), torch.nn.functional.linear(t(x), t(w["a.weight"])))
    wanted = torch.nn.functional.layer_norm(t(x), (6,), t(w["n.weight"]), t(w["n.bias"]), 1e-3)
    check(operations.layer_norm(w, "n", x, 1e-3), wanted)


@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 0, 1), (2, 1, 1), (1, 1, 4), (4, 3, 2)])
def test_conv(stride, padding, groups):
    w = {"c.weight": normal(8, 4 // groups, 3, 3), "c.bias": normal(8)}
    x = normal(2, 4, 9, 7)
    wanted = torch.nn.functional.conv2d(t(x), t(w["c.weight"]), t(w["c.bias"]), stride, padding, groups=groups)
    found = operations.conv(w, "c", channels_last(x), stride, padding, groups)
    check(found, wanted.permute(0, 2, 3, 1))


def test_conv_padding_of_each_side():
    w = {"c.weight": normal(2, 1, 3, 3)}
    x = normal(1, 1, 6, 6)
    padded = torch.nn.functional.pad(t(x), (0, 1, 2, 3))  # left, right, top, bottom
    wanted = torch.nn.functional.conv2d(padded, t(w["c.weight"]), stride=2)
    check(operations.conv(w, "c", channels_last(x), 2, ((2, 3), (0, 1))), wanted.permute(0, 2, 3, 1))


@pytest.mark.parametrize("k", [2, 4])
def test_conv_transpose(k):
    w = {"u.weight": normal(5, 3, k, k), "u.bias": normal(3)}
    x = normal(2, 5, 4, 3)
    wanted = torch.nn.functional.conv_transpose2d(t(x), t(w["u.weight"]), t(w["u.bias"]), stride=k)
    check(operations.conv_transpose(w, "u", channels_last(x)), wanted.permute(0, 2, 3, 1))


def test_attention():
    q, k, v, bias = normal(2, 3, 4, 8), normal(2, 5, 4, 8), normal(2, 5, 4, 8), normal(2, 4, 3, 5)
    heads = [t(x).transpose(1, 2) for x in (q, k, v)]
    wanted = torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=t(bias)).transpose(1, 2)
    check(operations.attention(q, k, v, bias), wanted)
    wanted = torch.nn.functional.scaled_dot_product_attention(*heads, scale=0.7).transpose(1, 2)
    check(operations.attention(q, k, v, scale=0.7), wanted)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [(13, 5), (7, 9), (3, 4), (1, 1), (6, 30)])
def test_resize_bilinear(size, align):
    x = normal(2, 7, 9, 3)
    wanted = torch.nn.functional.interpolate(t(x.transpose(0, 3, 1, 2)), size, mode="bilinear", align_corners=align)
    found = jax.jit(operations.resize_bilinear, static_argnums=(1, 2, 3))(x, *size, align)
    check(found, wanted.permute(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("name", "reference"),
    [("gelu", "gelu"), ("gelu_new", "gelu_new"), ("gelu_pytorch_tanh", "gelu_pytorch_tanh"), ("silu", "silu"),
     ("quick_gelu", "quick_gelu"), ("relu", "relu"), ("sigmoid", "sigmoid")],
)  # fmt: skip
def test_activations(name, reference):
    from transformers.activations import ACT2FN

    x = normal(50) * 3
    check(operations.ACTIVATIONS[name](x), ACT2FN[reference](t(x)), 1e-6)
