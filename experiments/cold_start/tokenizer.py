"""Builds the tokenizer of the tiny policy: `python experiments/cold_start/tokenizer.py --out dtr1_jax/assets/tiny`.

It is a byte-level BPE with a list of pieces that are always one token: the tags of a transcript, the punctuation of a
twin between two values, the integers to 255 with and without the comma that follows them in a box, and the ids of a
thought with the blank before them. An object with three attributes then takes 13 tokens, or 20 to 21 if it
crosses a video on a straight line. Any other UTF-8 text can still be encoded.
"""

import argparse
import collections
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.flax import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dtr1_jax.data.twinworld import tasks
from dtr1_jax.models.weights import native
from dtr1_jax.types import TASKS

VOCAB = 1664
INTEGERS = 256
IDS = range(1, 10)
FRAMES = range(8)  # numbers of the frames in the track of a video
COMMON = 0.0005  # share of the texts in which a word must occur to get a token of its own
EMBEDDING = "embed/table"
WEIGHTS = "policy.safetensors"
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
TEMPLATE = """{% for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}\
{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>\
{% elif part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>\
{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def pieces() -> list[str]:
    """The texts that are always one token."""
    tags = [f"<{slash}{name}>" for name in ("construct", "twin", "think", "answer") for slash in ("", "/")]
    fixed = [
        '<twin>{"size":[', '],"objects":[', '"]}]}</twin><think>', '</think><answer>{"objects":[', "]}</answer>",
        '","box":[', '","', '"]}', '],"depth":', '],"attributes":["', '{"objects":[', '{"boxes":[[', '{"text":"', '"}',
        '],"objects":[]}</twin><think>', '"}]}</twin><think>', '],"relations":[[',
        ": ", ". ", ", ", "user\n", "assistant\n",
        '],"frames":[', '],"frames":[0,1,2,3],"objects":[{"id":1,"label":"', ']},"velocity":[', '},"velocity":[',
        '</think><answer>{"text":"', '"}</answer>',
    ]  # fmt: skip
    numbered = [
        t.format(i)
        for i in IDS
        for t in ('{{"id":{},"label":"', '"]}},{{"id":{},"label":"', '],"depth":{},"attributes":["')
    ]
    numbered += [f'],"objects":[{{"id":{i},"label":"' for i in (1,)]
    numbered += [f" {i}" for i in IDS]
    numbered += [t.format(i) for i in FRAMES for t in ('","track":{{"{}":[', '],"{}":[', '],"{}":null', ',"{}":[')]
    integers = [f"{i}{comma}" for i in range(INTEGERS) for comma in ("", ",")]
    return tags + fixed + numbered + integers


def corpus(examples: int) -> Iterator[str]:
    """Texts of TwinWorld's training split, from `examples` examples of each task on pictures and as many on videos."""
    for video, bounds in ((False, {}), (True, {"frames": 4, "max_objects": 3})):
        for task in TASKS:
            for i in range(examples):
                example = tasks.example(task, 0, "train", i, video=video, **bounds)
                yield example.query
                yield example.thought
                yield from example.target.references
                for instance in example.scene:
                    yield from (instance.label, *instance.attributes)


def words(tokenizer: Tokenizer, texts: Iterable[str]) -> list[str]:
    """Common words of the texts, with the blank before them, that the tokenizer splits; the commonest first.

    Words that are part of a one-token word are left out: as pieces they would split that word.
    """
    texts = list(texts)
    counts = collections.Counter(word for text in texts for word in set(re.findall(" ?[a-z]+", text)))
    is_token = {word: len(tokenizer.encode(word).ids) == 1 for word in counts}
    one_token = " ".join(word for word in counts if is_token[word])
    return [w for w, n in counts.most_common() if n >= COMMON * len(texts) and not is_token[w] and w not in one_token]


def build(examples: int) -> Tokenizer:
    """Trains the BPE on `examples` examples (see `corpus`) and adds the fixed pieces."""
    fixed = pieces()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    size = VOCAB - len(fixed) - len(SPECIAL)
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(examples), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in fixed])
    return tokenizer


def extend(path: Path, examples: int) -> Tokenizer:
    """Reads a tokenizer that this script wrote and appends the pieces and common words that it splits.

    Existing ids stay. Raises SystemExit if the pieces alone exceed VOCAB ids.
    """
    tokenizer = Tokenizer.from_file(str(path))
    known = tokenizer.get_vocab()
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in pieces() if t not in known])
    if tokenizer.get_vocab_size() > VOCAB:
        size = tokenizer.get_vocab_size()
        raise SystemExit(f"{path}: expected at most {VOCAB} ids with the missing pieces, got {size}; raise VOCAB")
    common = words(tokenizer, corpus(examples))[: VOCAB - tokenizer.get_vocab_size()]
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in common])
    return tokenizer


def grow(path: Path, old: Tokenizer, new: Tokenizer) -> dict[str, jax.Array]:
    """Weights of a file with an embedding for each of VOCAB ids.

    The embedding of a new piece is the mean over the tokens into which the old tokenizer splits it.
    """
    tensors = load_file(path)
    table = np.zeros((VOCAB, tensors[EMBEDDING].shape[1]), np.float32)
    table[: len(tensors[EMBEDDING])] = tensors[EMBEDDING]
    for i in range(old.get_vocab_size(), new.get_vocab_size()):
        table[i] = table[old.encode(new.id_to_token(i)).ids].mean(0)
    return tensors | {EMBEDDING: jnp.asarray(table)}


def main() -> None:
    """Writes the folder of the tokenizer and prints the number of its ids."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--extend", type=Path, help="folder of a tokenizer: add the missing pieces to it")
    args = parser.parse_args()
    tokenizer = extend(args.extend / "tokenizer.json", args.examples) if args.extend else build(args.examples)
    hf = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
    if args.extend and (args.extend / WEIGHTS).exists():
        old = Tokenizer.from_file(str(args.extend / "tokenizer.json"))
        native.save_native(args.out / WEIGHTS, native.unflatten(grow(args.extend / WEIGHTS, old, tokenizer)))
    hf.save_pretrained(args.out)
    print(json.dumps({"vocab": len(hf), "out": str(args.out)}))


if __name__ == "__main__":
    main()
