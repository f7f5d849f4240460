"""Counts in how many samples each run of up to four words occurs: the table by which the column "cider" weighs words.

python experiments/idf.py --out=idf.json                                     # summaries of TwinWorld's pictures
python experiments/idf.py --out=idf.json --source=jsonl --root=mine.jsonl    # of your own data, its training split

Then train with --config.reward.idf=idf.json. A run of words that occurs in a single sample is left out of the table,
since one that is not there counts as in one sample. Prints one line of JSON: the samples, and the runs that were kept.
"""

import argparse
import dataclasses
import json
import sys

from configs import default
from dtr1_jax import config
from dtr1_jax.data import image_files, sources, video_files
from dtr1_jax.evaluation.benchmarks import captions


def references(source: sources.Source, most: int) -> list[tuple[str, ...]]:
    """Right answers of at most `most` examples, spread over the source, without those that have none or are broken."""
    found = []
    for index in video_files.even_indices(len(source), most).tolist():
        try:
            found.append(source[index].target.references)
        except image_files.ImageError as error:
            print(f"passed over: {error}", file=sys.stderr)
    return [answers for answers in found if answers]


def table(answers: list[tuple[str, ...]]) -> captions.Frequencies:
    """Their document frequencies, of which those of 1 go without saying. Raises ValueError where there are none."""
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
    parser.add_argument("--n", type=int, default=5000, help="samples at most")
    args = parser.parse_args(arguments)
    if args.n < 1:
        parser.error(f"--n: expected at least 1, got {args.n}")
    settings = default.get_config()
    settings.data.update(source=args.source, root=args.root, task=args.task, video=args.video)
    try:
        found = table(references(sources.open_source(config.from_configdict(settings).data, "train"), args.n))
        captions.write_frequencies(args.out, found)
    except (config.ConfigError, sources.DataError, OSError) as error:
        parser.error(str(error))
    except ValueError as error:
        parser.error(f"{args.root or args.source}: no answers in words ({error})")
    print(json.dumps({"samples": found.documents, "runs": len(found.counts)}))


if __name__ == "__main__":
    main()
