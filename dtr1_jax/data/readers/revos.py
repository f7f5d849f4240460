"""ReVOS (arXiv 2407.11325): queries about videos that name their target, imply it, or speak of what is not there.

    ROOT/meta_expressions_train_.json, meta_expressions_valid_.json    as in mevis.py, with a "type_id": 0 = referring,
                                                                       1 = reasoning, 2 = hallucination
    ROOT/mask_dict.json                                                {"ANNO_ID": [RLE or null, ...]}
    ROOT/mask_dict_foreground.json                                     {NAME: {"masks_rle": [RLE, ...]}}
    ROOT/JPEGImages/NAME/FRAME.jpg

Source: github.com/cilinyan/VISA, tools/eval_revos.py.
"""

from __future__ import annotations

from pathlib import Path

from dtr1_jax.data.json_files import DataError, whole_number
from dtr1_jax.data.readers import benchmark, coco_records, file_names, mask_lists, mevis, referred_videos
from dtr1_jax.data.readers.benchmark import Benchmark, Query
from dtr1_jax.data.readers.referred_videos import ListedMasks, QueriedVideo

NAME = "revos"
SPLITS = ("valid", "train", "train_sub")
TYPES = {0: "referring", 1: "reasoning", 2: "hallucination"}
LAYOUT = "meta_expressions_SPLIT_.json, mask_dict.json, mask_dict_foreground.json and JPEGImages/NAME/FRAME.jpg"


def open_revos_source(root: str, split: str, task: str) -> Benchmark:
    """Reads the queries of a split, in the order of the file; frames and masks are read when an example is indexed.

    Args:
      root: the folder.
      split: valid, train or train_sub; "heldout" is valid.
      task: segmentation.

    Raises DataError: no such files, or no query that can be used.
    """
    folder = Path(root).expanduser()
    split = benchmark.choose_split(folder, split, SPLITS, "valid")
    folder = folder if file_names.is_file(folder / "mask_dict.json") else folder / "ReVOS"
    file, mask_file, foreground_file = (
        folder / name for name in (f"meta_expressions_{split}_.json", "mask_dict.json", "mask_dict_foreground.json")
    )
    for path in (file, mask_file):
        if not file_names.is_file(path):
            raise DataError(f"{root}: expected {LAYOUT}, got no {path.name}; set data.root to the folder of ReVOS")
    faults = coco_records.Faults()
    places, grounds = mask_lists.find_lists(mask_file), {}
    if file_names.is_file(foreground_file):
        grounds = dict(mask_lists.find_lists(foreground_file, "masks_rle"))
    else:
        benchmark.log.warning("%s: no such file: the robustness R is not computed", foreground_file)
    queries: list[Query] = []
    for video in referred_videos.read_videos(file, [folder / "JPEGImages"], faults):
        count = len(video.names)
        ground = ListedMasks(foreground_file, grounds[video.name], count) if video.name in grounds else None
        if grounds and ground is None:
            faults.add("videos without a foreground", video.name)
            continue
        for number, record in mevis.expressions(video, faults):
            kind = TYPES.get(whole_number(record.get("type_id")))
            objects = mevis.annotated(record, mask_file, places, count)
            if kind is None or objects is None:
                fault = "a type_id from 0 to 2" if kind is None else "masks"
                faults.add(f"queries without {fault}", f"{video.name}/{number}")
                continue
            whole = QueriedVideo(video.folder, video.names, video.suffix, tuple(range(count)), objects, ground)
            query = referred_videos.make_query(NAME, split, video, number, record.get("exp"), whole, (kind,))
            queries += [query] if query else []
            if query is None:
                faults.add("queries without text", f"{video.name}/{number}")
    return referred_videos.open_videos(NAME, folder, split, task, queries, faults, (None, None), LAYOUT)
