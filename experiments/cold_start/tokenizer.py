"""Builds the tokenizer of the tiny policy: `python experiments/cold_start/tokenizer.py --out dtr1_jax/assets/tiny`.

A byte-level BPE for words, and before it a list of pieces that are always one token: the tags of a transcript, the
punctuation of a twin between two values, the integers to 255 with and without the comma that follows them in a box,
and the ids of a thought with the blank before them. An object with three attributes then costs thirteen tokens.
Everything else, any UTF-8 text, still has an encoding.
"""

import argparse
import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dtr1_jax.data.twinworld import generate

VOCAB = 1536
INTEGERS = 256
IDS = range(1, 10)
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
    """Text that is always one token."""
    tags = [f"<{slash}{name}>" for name in ("construct", "twin", "think", "answer") for slash in ("", "/")]
    fixed = [
        '<twin>{"size":[', '],"objects":[', '"]}]}</twin><think>', '</think><answer>{"objects":[', "]}</answer>",
        '","box":[', '","', '"]}', '],"depth":', '],"attributes":["', '{"objects":[', '{"boxes":[[', '{"text":"', '"}',
        '],"objects":[]}</twin><think>', '"}]}</twin><think>', '],"relations":[[',
        ": ", ". ", ", ", "user\n", "assistant\n",
    ]  # fmt: skip
    numbered = [
        t.format(i)
        for i in IDS
        for t in ('{{"id":{},"label":"', '"]}},{{"id":{},"label":"', '],"depth":{},"attributes":["')
    ]
    numbered += [f'],"objects":[{{"id":{i},"label":"' for i in (1,)]
    numbered += [f" {i}" for i in IDS]
    integers = [f"{i}{comma}" for i in range(INTEGERS) for comma in ("", ",")]
    return tags + fixed + numbered + integers


def corpus(examples: int):
    """Queries and thoughts of the training split."""
    for i in range(examples):
        example = generate.example(0, "train", i)
        yield example.query
        yield example.thought
        for instance in example.scene:
            yield from (instance.label, *instance.attributes)


def build(examples: int) -> Tokenizer:
    """Trains the BPE and adds the fixed pieces."""
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


def extend(path: Path) -> Tokenizer:
    """A tokenizer of ours with the pieces that it lacks at its end: the ids that a policy has learnt stay."""
    tokenizer = Tokenizer.from_file(str(path))
    known = tokenizer.get_vocab()
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in pieces() if t not in known])
    if tokenizer.get_vocab_size() > VOCAB:
        raise SystemExit(f"{path}: {tokenizer.get_vocab_size()} ids with the pieces it lacks, more than {VOCAB}")
    return tokenizer


def main() -> None:
    """Writes the folder of the tokenizer and says how many ids it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=4000)
    parser.add_argument("--extend", type=Path, help="tokenizer.json to which the pieces that it lacks are added")
    args = parser.parse_args()
    hf = PreTrainedTokenizerFast(
        tokenizer_object=extend(args.extend) if args.extend else build(args.examples),
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
    hf.save_pretrained(args.out)
    print(json.dumps({"vocab": len(hf), "out": str(args.out)}))


if __name__ == "__main__":
    main()
