"""The sentences of a ref, as RefCOCO and gRefCOCO write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dtr1_jax.data.readers import coco_records
from dtr1_jax.data.readers.jsonl_fields import is_text


def sentences_of(ref: Mapping) -> list[tuple[Any, str]]:
    """(id, text) of each usable sentence of a ref: "sent", or "raw" where that is blank. Empty for another form."""
    found = []
    sentences = ref.get("sentences")
    for k, sentence in enumerate(sentences if isinstance(sentences, list) else ()):
        if isinstance(sentence, str):
            sentence = {"sent": sentence}
        texts = [sentence.get("sent"), sentence.get("raw")] if isinstance(sentence, dict) else []
        text = next((" ".join(t.split()) for t in texts if is_text(t)), "")
        if text:
            found.append((coco_records.parse_id(sentence.get("sent_id", k)), text))
    return found
