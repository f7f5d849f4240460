"""The report: self-contained, honest about what is missing, and unmoved by hostile text and files."""

import html.parser
import json
import re
import xml.etree.ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dtr1_jax.report import charts
from dtr1_jax.report import page as report_page

EVIL = "<script>alert(\"x\")</script><img src=x onerror=alert(1)> & 'quoted' </pre></details> \ud800"


class Page(html.parser.HTMLParser):
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


def gallery(workdir, side, records):
    folder = workdir / "gallery" / side
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "0.png")
    (folder / "predictions.jsonl").write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records))
    return folder


def log(workdir, rows):
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def test_whole_run(tmp_path):
    config = {"policy": {"name": "tiny"}, "reward": {"weights": {"grounding": {"box_iou": 1}}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    train = [{"step": s, "train/reward": s / 10, "train/box_iou": 0.1, "train/kl": 0.0, "odd": 1} for s in range(1, 11)]
    log(
        tmp_path,
        [
            {"step": 0, "eval/giou": 0.25, "eval/ciou": 0.2, "eval/structure": 0.5},
            *train,
            {"step": 10, "eval/giou": 0.5, "eval/ciou": 0.1, "eval/structure": 1.0},
        ],
    )
    faulty = record(sound=False, faults=[{"where": "twin.size", "message": "missing"}])
    gallery(tmp_path, "before", [faulty, record("b")])
    gallery(tmp_path, "after", [record("a", giou=0.75)])
    path = report_page.build(tmp_path)
    page = Page(path)
    assert path == tmp_path / "report.html" and not list(tmp_path.glob("*.partial"))
    for words in (
        "gIoU held-out 0.250 → 0.500 +0.250",
        "cIoU held-out 0.200 → 0.100 -0.100",
        "reward training, mean of 5 steps 0.300 → 0.800 +0.500",
        "policy tiny",
        "1 other numbers",
        "train/box_iou",
        "twin.size missing",
        "IoU 0.25",
        "IoU 0.75",
        "no prediction",
        '{"objects": [1]}',
    ):
        assert words in page.text, words
    assert page.count("article") == 2 and page.count("img") == 3


def test_a_run_of_other_tasks(tmp_path):
    shared = {"eval/mean": 0.5, "eval/structure": 1.0}
    log(tmp_path, [{"step": s, **shared, "eval/vqa/video/accuracy": 0.25 + s / 4} for s in (0, 1)])
    words = {"metric": "accuracy", "value": 0.5, "references": ["two", "<b>2"], "answer": {"text": "3"}, "giou": None}
    gallery(tmp_path, "after", [record(**words, pictures={}), record("b", references=3, value="much", giou=None)])
    page = Page(report_page.build(tmp_path))
    for said in (
        "vqa, video: accuracy held-out 0.250 → 0.500 +0.250", "mean of the tasks held-out 0.500", "accuracy 0.50",
        "reference two", "reference <b>2",
    ):  # fmt: skip
        assert said in page.text, said
    assert "gIoU" not in page.text and "IoU 0" not in page.text


def test_page_is_self_contained_and_forbids_scripts(tmp_path):
    gallery(tmp_path, "after", [record()])
    page = Page(report_page.build(tmp_path))
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "form")
        assert all(not name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert "href" not in attributes
    assert "url(" not in page.source and "@import" not in page.source
    assert any("default-src 'none'" in a.get("content", "") for t, a in page.elements if t == "meta")


def test_hostile_text_stays_text(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"policy": {"name": EVIL}, EVIL: EVIL}))
    log(tmp_path, [{"step": s, EVIL: 1.0, "train/reward": 1.0, f"train/reward/{EVIL}": 0.5} for s in (1, 2)])
    evil = record(
        EVIL,
        query=EVIL,
        category=EVIL,
        level=EVIL,
        transcript=EVIL,
        columns={EVIL: 1},
        answer={"text": EVIL},
        faults=[{"where": EVIL, "message": EVIL}],
        sound=EVIL,
        giou=EVIL,
        twin={"objects": [{"label": EVIL}]},
        pictures={"image": EVIL, EVIL: "0.png"},
    )
    gallery(tmp_path, "before", [evil])
    page = Page(report_page.build(tmp_path))
    assert page.count("script") == 0 and page.count("img") == 0 and page.count("article") == 1
    assert all("onerror" not in a for _, a in page.elements) and 'alert("x")' in page.text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(sorted(record())), json_values, max_size=6), number=json_values)
def test_any_json_in_any_place(tmp_path_factory, changes, number):
    folder = tmp_path_factory.mktemp("run")
    gallery(folder, "after", [record(**changes), json.dumps(number), "[" * 100_000, '{"uid'])
    log(folder, [{"step": 1, "train/reward": number, "train/kl": 10**400}, {"step": 10**400}])
    assert Page(report_page.build(folder)).count("article") >= 1


@pytest.mark.parametrize(
    "name, word",
    [
        ("../secret.png", "outside"),
        ("/etc/passwd", "outside"),
        ("..", "outside"),
        ("sub/0.png", "outside"),
        ("..\\secret.png", "outside"),
        ("link.png", "outside"),
        ("a\0.png", "outside"),
        ("none.png", "missing"),
        ("x" * 5000, "missing"),
        ("text.png", "not a PNG"),
        ("large.png", "too large"),
        (7, "none"),
        ("", "none"),
        (None, "none"),
    ],
)
def test_pictures_that_are_not_shown(tmp_path, name, word):
    folder = gallery(tmp_path, "after", [record(pictures={"image": name})])
    (tmp_path / "gallery" / "secret.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "link.png").symlink_to(tmp_path / "gallery" / "secret.png")
    (folder / "text.png").write_text("<svg onload=alert(1)>")
    with open(folder / "large.png", "wb") as f:
        f.truncate(report_page.MAX_PICTURE + 1)
    page = Page(report_page.build(tmp_path))
    assert page.count("img") == 0 and word in page.text


def test_missing_pieces_are_said(tmp_path):
    text = Page(report_page.build(tmp_path)).text
    for words in ("No metrics.jsonl", "No predictions yet", "not measured", "nothing recorded", "no config.json"):
        assert words in text
    log(tmp_path, [{"step": 0, "eval/giou": 0.5}])
    gallery(tmp_path, "before", [record()])
    text = Page(report_page.build(tmp_path)).text
    assert "0.500 measured once" in text and "No predictions from after training." in text


def points_of(svg):
    return [
        [tuple(map(float, p.split(","))) for p in line.get("points").split()]
        for line in xml.etree.ElementTree.fromstring(svg).iter("polyline")
    ]


def test_chart_places_points():
    (line,) = points_of(charts.chart({"a": [(0, 0.0), (5, 0.5), (10, 1.0)]}, label="a"))
    (x0, y0), (x1, y1), (x2, y2) = line
    assert (x0, x2) == (46, charts.WIDTH - 10) and (y0, y2) == (charts.HEIGHT - 24, 8)
    assert (x1, y1) == ((x0 + x2) / 2, (y0 + y2) / 2)


def test_chart_breaks_at_gaps_and_smooths_long_lines():
    gap = charts.chart({"a": [(0, 1), (1, 2), (2, None), (3, float("nan")), (4, 1), (5, 2), (6, 1e308)]}, label="a")
    assert [len(line) for line in points_of(gap)] == [2, 2]
    assert len(points_of(charts.chart({"a": [(x, x % 2) for x in range(41)]}, label="a"))) == 2
    assert "nothing recorded" in charts.chart({"a": [(0, None)]}, label="a")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(), min_size=1, max_size=6))
def test_chart_of_any_numbers_stays_in_its_box(values):
    svg = charts.chart({"<a>": list(enumerate(values))}, label="<a>")
    for line in points_of(svg) if svg.startswith("<svg") else []:
        assert all(-1 <= x <= charts.WIDTH + 1 and -1 <= y <= charts.HEIGHT + 1 for x, y in line)


@pytest.mark.parametrize(
    "low, high, want",
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (5, 5, [4.5, 5, 5.5]),
        (0, 0, [-1, 0, 1]),
        (-2, 7, [-2, 0, 2, 4, 6]),
        (0.31, 0.58, [0.35, 0.4, 0.45, 0.5, 0.55]),
    ],
)
def test_ticks(low, high, want):
    np.testing.assert_allclose(charts.ticks(low, high), want, atol=1e-12)


def test_smooth_is_unbiased_from_the_start():
    np.testing.assert_allclose(charts.smooth([3.0] * 4), [3.0] * 4)
    # weights 0.7 * 0.3 and 0.3 over 1 - 0.49
    np.testing.assert_allclose(charts.smooth([0.0, 1.0]), [0.0, 0.3 / 0.51])


def test_a_line_for_each_task(tmp_path):
    rows = [
        {"step": s, "train/reward": 0.1, "train/segmentation/reward": 0.2 * s, "train/vqa/reward": 0.1 * s,
         "train/vqa/length": 9.0, "train/ema_std/segmentation": 0.3, "train/ema_std/vqa": 0.2, "eval/giou/summary": 1}
        for s in range(3)
    ]  # fmt: skip
    log(tmp_path, rows)
    page = Page(report_page.build(tmp_path))
    figures = {f.partition("<figcaption>")[2].partition("<")[0]: f for f in page.source.split("<figure")[1:]}
    reward = figures["train/reward by task"]
    assert reward.count("<polyline") == 2 and "legend" in reward
    assert '<i class="c0"></i>segmentation' in reward and '<i class="c2"></i>vqa' in reward
    assert "vqa: 0.2 at step 2" in reward and 'class="c2" cx=' in reward
    assert 'class="c2" cx=' in figures["train/length by task"]  # a task has one colour, also where it is alone
    assert '<i class="c2"></i>vqa' in figures["train/ema_std by task"]
    assert "eval/giou by task" in figures and "train/vqa/length" not in page.text
    assert "by task" in list(figures)[9]  # after the panels that a person looks at first
