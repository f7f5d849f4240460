"""Counts in how many samples each n-gram of up to four words occurs: the reward's column "cider" weighs words by it.

python experiments/idf.py --out=idf.json                                     # summaries of TwinWorld's pictures
python experiments/idf.py --out=idf.json --source=jsonl --root=mine.jsonl    # of your own data, its training split

Then train with --config.reward.idf=idf.json. The table leaves out n-grams that occur in a single sample, because an
n-gram that is not in it counts as in one sample. Prints one line of JSON: "samples", and "runs", the n-grams in the
table.
"""

import argparse
import dataclasses
import json
import sys

from configs import default
from dtr1_jax import config
from dtr1_jax.data import image_files, sources, video_files
from dtr1_jax.evaluation.benchmarks import captions


def references(source: sources.Source, max_examples: int) -> list[tuple[str, ...]]:
    """Reference answers of at most `max_examples` examples, spread evenly over the source.

    Examples without answers in words are left out. So are examples that cannot be read, with a line on stderr.
    """
    answers = []
    for index in video_files.even_indices(len(source), max_examples).tolist():
        try:
            answers.append(source[index].target.references)
        except image_files.ImageError as error:
            print(f"skipped: {error}", file=sys.stderr)
    return [texts for texts in answers if texts]


def table(answers: list[tuple[str, ...]]) -> captions.Frequencies:
    """Document frequencies above 1 of the n-grams in the answers. Raises ValueError if there are no answers."""
    whole = captions.frequencies(answers)
    return dataclasses.replace(whole, counts={gram: count for gram, count in whole.counts.items() if count > 1})


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--source", default="twinworld", help="config.data.source")
    parser.add_argument("--root", default="", help="config.data.root")
    parser.add_argument("--task", choices=("summary", "vqa"), default="summary")
    parser.add_argument("--video", type=float, default=0.0, help="config.data.video: share of videos")
    parser.add_argument("--n", type=int, default=5000, help="most samples to read")
    args = parser.parse_args(arguments)
    if args.n < 1:
        parser.error(f"--n: expected at least 1, got {args.n}")
    settings = default.get_config()
    settings.data.update(source=args.source, root=args.root, task=args.task, video=args.video)
    try:
        frequencies = table(references(sources.open_source(config.from_configdict(settings).data, "train"), args.n))
        captions.write_frequencies(args.out, frequencies)
    except (config.ConfigError, sources.DataError, OSError) as error:
        parser.error(str(error))
    except ValueError as error:
        parser.error(f"{args.root or args.source}: no answers in words ({error}); take data of task summary or vqa")
    print(json.dumps({"samples": frequencies.documents, "runs": len(frequencies.counts)}))


if __name__ == "__main__":
    main()
