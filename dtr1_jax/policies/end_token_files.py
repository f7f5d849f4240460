"""Writes into an exported folder where completions end: generation_config.json, config.json, tokenizer_config.json."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from dtr1_jax.data.tokenizer import Tokenizer
from dtr1_jax.models.weights import exporting, hf_checkpoint

GENERATION = "generation_config.json"
_TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json")
_IDS = ("bos_token_id", "pad_token_id")

log = logging.getLogger(__name__)


def with_ends(values: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """The values of a config.json, with the tokenizer's end tokens wherever it lists end tokens."""
    ids, text = _ids(tokenizer), values.get("text_config")
    if not isinstance(text, dict):
        return _listing(values, ids)
    values = values | {"text_config": _listing(text, ids)}
    return _listing(values, ids) if values.get("eos_token_id") is not None else values


def write(folder: Path, tokenizer: Tokenizer, values: dict[str, Any], base: Path) -> None:
    """Makes the files of an exported folder end completions where training ended them, and where its base does.

    generation_config.json lists all end tokens. tokenizer_config.json (and special_tokens_map.json) names the one that
    the chat template writes behind an answer, unless the template itself uses the variable eos_token.

    Args:
      folder: the exported folder, with the tokenizer's files.
      tokenizer: that of the policy.
      values: of config.json, for the other token ids where the base has no generation_config.json.
      base: folder or file of the base.

    Raises WeightsError if a file of the base cannot be read as JSON.
    """
    file = base / GENERATION
    text = values.get("text_config")
    known = values | (text if isinstance(text, dict) else {})
    generation = {name: known[name] for name in _IDS if known.get(name) is not None}
    if file.is_file():
        generation = hf_checkpoint.read_json(file, "the settings of generation")
    exporting.write_json(folder / GENERATION, _listing(generation, _ids(tokenizer)))
    token = tokenizer.hf.convert_ids_to_tokens(tokenizer.end)
    if token == tokenizer.hf.eos_token:
        return
    if "eos_token" in tokenizer.template:
        log.warning(
            "%s: completions ended with %s in training, but tokenizer_config.json keeps the eos_token %s, because the "
            "chat template writes it elsewhere; %s lists both",
            tokenizer.where, token, tokenizer.hf.eos_token, GENERATION,
        )  # fmt: skip
        return
    for file in (folder / name for name in _TOKENIZER):
        if file.is_file():
            settings = hf_checkpoint.read_json(file, "the settings of the tokenizer")
            old = settings.get("eos_token")
            if old is not None or file.name == _TOKENIZER[0]:
                new = old | {"content": token} if isinstance(old, dict) else token
                exporting.write_json(file, settings | {"eos_token": new})


def warn_of_base(tokenizer: Tokenizer, values: dict[str, Any], base: Path, adapter: Path) -> None:
    """Warns where the base of an adapter does not end completions at the token with which training ended them."""
    file = base / GENERATION
    generation = hf_checkpoint.read_json(file, "the settings of generation") if file.is_file() else {}
    text = values.get("text_config")
    lists = (generation, values, text if isinstance(text, dict) else {})
    listed = next((x["eos_token_id"] for x in lists if x.get("eos_token_id") is not None), ())
    if tokenizer.end not in (listed if isinstance(listed, list | tuple) else [listed]):
        log.warning(
            "training ended completions with %s, which is no end token of the base: generate with "
            "generation_config=transformers.GenerationConfig.from_pretrained(%r)",
            tokenizer.hf.convert_ids_to_tokens(tokenizer.end), str(adapter),
        )  # fmt: skip


def _ids(tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.end, *(i for i in tokenizer.ends if i != tokenizer.end)]


def _listing(values: dict[str, Any], ids: list[int]) -> dict[str, Any]:
    """`values` with all of `ids` in eos_token_id, as they are where the same tokens are listed already."""
    old = values.get("eos_token_id")
    if old is not None and set(old if isinstance(old, list) else [old]) == set(ids):
        return values
    return values | {"eos_token_id": ids if len(ids) > 1 else ids[0]}
