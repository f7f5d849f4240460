"""Exported vision-language policies with a picture: transformers and PEFT give the logits that ours gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import TOKENS, write
from exports import auto, pretend, run, settings

from dtr1_jax.data import patch_layout
from dtr1_jax.models import policy
from dtr1_jax.types import Images, Prompt

FAMILIES = ["qwen2_5_vl", "qwen3_vl"]
GRID = (1, 4, 6)  # frames, rows and columns of patches, merged 2 x 2 into 6 tokens
START, IMAGE, END = (TOKENS[f"{name}_token_id"] for name in ("vision_start", "image", "vision_end"))
IDS = np.array([3, 200, START, *[IMAGE] * 6, END, 41, 7, 960, 12])
TARGETS = "(vision/(blocks|merger|deepstack)|decoder)/.*"


def patches(values: int) -> np.ndarray:
    """Of one picture, in the order in which the processors of the checkpoints give them."""
    return np.random.default_rng(5).normal(size=(GRID[1] * GRID[2], values)).astype(np.float32)


def theirs(model, values: int) -> np.ndarray:
    """float32[L, V], with rotary positions as transformers numbers them."""
    import torch

    known = {
        "input_ids": torch.tensor(IDS[None]), "attention_mask": torch.ones(1, len(IDS), dtype=torch.long),
        "mm_token_type_ids": torch.tensor((IDS == IMAGE)[None].astype(int)), "image_grid_thw": torch.tensor([GRID]),
    }  # fmt: skip
    with torch.no_grad():
        return model.eval()(**known, pixel_values=torch.tensor(patches(values))).logits[0].float().numpy()


def positions() -> np.ndarray:
    """int[L, 3]: a picture's tokens count rows and columns from where it begins, and the text goes on after the larger
    of them (M-RoPE, arXiv 2409.12191)."""
    before, rows, columns = np.flatnonzero(IDS == IMAGE)[0], GRID[1] // 2, GRID[2] // 2
    row, column = np.divmod(np.arange(rows * columns), columns)
    seen = before + np.stack([0 * row, row, column], 1)
    after = before + max(rows, columns) + np.arange(len(IDS) - before - len(seen))
    text = [np.repeat(x[:, None], 3, 1) for x in (np.arange(before), after)]
    return np.concatenate([text[0], seen, text[1]])


def ours(base: dict, lora: dict | None, spec) -> np.ndarray:
    """float32[tokens after the picture, V]: the prompt ends with the picture, and the rest is a completion."""
    tower = spec.vision
    laid = patch_layout.layout([GRID], merge=tower.merge, side=tower.side, window=tower.window, patches=40)
    patch = np.zeros((1, 40, tower.values), np.float32)
    patch[0, : len(laid.order)] = patches(tower.values)[laid.order]
    fields = {name: None if x is None else x[None] for name, x in laid.fields.items()}
    cut = int(np.flatnonzero(IDS == END)[0]) + 1
    slot = np.full((1, cut), -1)
    slot[0, IDS[:cut] == IMAGE] = laid.place[:6]
    position = positions()
    prompt = Prompt(
        token_bp=IDS[None, :cut], mask_bp=np.ones((1, cut), bool), position_bp3=position[None, :cut], slot_bp=slot,
        next_b=position[cut : cut + 1, 0], images=Images(patch_bnc=patch, **fields),
    )  # fmt: skip

    @jax.jit
    def logits(base, lora, prompt, token):
        prefix = policy.prefill(base, lora, spec, prompt)
        return policy.logits(base, spec, policy.hidden(base, lora, spec, prefix, token))

    prompt = jax.tree.map(jnp.asarray, prompt)
    return np.asarray(logits(base, lora, prompt, jnp.asarray([[[*IDS[cut:], 0]]])))[0, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_gives_the_same_logits_merged_and_as_an_adapter(tmp_path, monkeypatch, family):
    kind = auto(family)
    peft = pytest.importorskip("peft")
    write(tmp_path / "base", family)
    held = pretend(monkeypatch)
    values = settings(tmp_path / "base", targets=TARGETS, rslora=True, dropout=0.1)
    merged = kind.from_pretrained(run(tmp_path, values), dtype="float32")
    folder = run(tmp_path, values, adapter=True, name="adapter")
    adapted = peft.PeftModel.from_pretrained(kind.from_pretrained(tmp_path / "base", dtype="float32"), folder)
    wanted = ours(held["base"], held["lora"], held["spec"])
    size, count = held["spec"].vision.values, len(wanted)
    assert held["spec"].lora_scale == 8 / 2 and adapted.peft_config["default"].use_rslora
    assert adapted.peft_config["default"].lora_dropout == 0.1
    np.testing.assert_allclose(theirs(merged, size)[-count:], wanted, atol=1e-4)
    np.testing.assert_allclose(theirs(adapted, size)[-count:], wanted, atol=1e-4)
    # the adapters of the tower do something, and so does the picture
    decoder = {"decoder": held["lora"]["decoder"]}
    assert np.abs(ours(held["base"], decoder, held["spec"]) - wanted).max() > 0.01
    assert np.abs(theirs(merged, size)[-count:]).max() > 0.5
