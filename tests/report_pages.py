"""Work folders to report on, and what a built page holds."""

import html.parser
import json
import re

import numpy as np
from PIL import Image

EVIL = "<script>alert(\"x\")</script><img src=x onerror=alert(1)> & 'quoted' </pre></details> \ud800"


class ParsedPage(html.parser.HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.words = [], []
        self.source = path.read_text("utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def count(self, tag):
        return sum(t == tag for t, _ in self.elements)


def record(uid="a", **changes):
    """A line of predictions.jsonl."""
    return {
        "uid": uid,
        "query": "what keeps tea hot",
        "category": "semantic",
        "level": 2,
        "transcript": "<twin>{}</twin>",
        "sound": True,
        "faults": [],
        "columns": {"structure": 1.0, "mask_iou": 0.25},
        "giou": 0.25,
        "answer": {"objects": [1]},
        "twin": None,
        "pictures": {"image": "0.png"},
        **changes,
    }


def write_gallery(workdir, side, records):
    """Writes a gallery of one side (before, after) with the picture 0.png; returns its folder."""
    folder = workdir / "gallery" / side
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "0.png")
    (folder / "predictions.jsonl").write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records))
    return folder


def write_log(workdir, rows):
    """Writes the run log."""
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
