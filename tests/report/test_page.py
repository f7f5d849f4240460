"""The whole page: self-contained, clear about missing files, and safe against hostile text."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from report_pages import EVIL, ParsedPage, record, write_gallery, write_log

from dtr1_jax.report import page
from dtr1_jax.run import warnings_file


def test_whole_run(tmp_path):
    config = {"policy": {"name": "tiny"}, "reward": {"weights": {"grounding": {"box_iou": 1}}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    train = [{"step": s, "train/reward": s / 10, "train/box_iou": 0.1, "train/kl": 0.0, "odd": 1} for s in range(1, 11)]
    write_log(
        tmp_path,
        [
            {"step": 0, "eval/giou": 0.25, "eval/ciou": 0.2, "eval/structure": 0.5},
            *train,
            {"step": 10, "eval/giou": 0.5, "eval/ciou": 0.1, "eval/structure": 1.0},
        ],
    )
    faulty = record(sound=False, faults=[{"where": "twin.size", "message": "missing"}])
    write_gallery(tmp_path, "before", [faulty, record("b")])
    write_gallery(tmp_path, "after", [record("a", giou=0.75)])
    path = page.build(tmp_path)
    parsed = ParsedPage(path)
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
        assert words in parsed.text, words
    assert parsed.count("article") == 2 and parsed.count("img") == 3


def test_page_is_self_contained_and_forbids_scripts(tmp_path):
    write_gallery(tmp_path, "after", [record()])
    parsed = ParsedPage(page.build(tmp_path))
    for tag, attributes in parsed.elements:
        assert tag not in ("script", "link", "iframe", "object", "form")
        assert all(not name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert "href" not in attributes
    assert "url(" not in parsed.source and "@import" not in parsed.source
    assert any("default-src 'none'" in a.get("content", "") for t, a in parsed.elements if t == "meta")


def test_warnings_of_the_run_come_first(tmp_path):
    assert "Warnings" not in ParsedPage(page.build(tmp_path)).text
    warnings_file.append_warning(tmp_path, 5, "no_reward", f"every reward is 0 {EVIL}")
    warnings_file.append_warning(tmp_path, 7, "mismatch", "\ud800 set grpo.importance")
    parsed = ParsedPage(page.build(tmp_path))
    assert "Warnings step 5: every reward is 0" in parsed.text and "step 7: \\ud800 set grpo.importance" in parsed.text
    assert parsed.text.index("step 5:") < parsed.text.index("Before and after")
    assert not {tag for tag, _ in parsed.elements} & {"script", "iframe"}


def test_hostile_text_stays_text(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"policy": {"name": EVIL}, EVIL: EVIL}))
    write_log(tmp_path, [{"step": s, EVIL: 1.0, "train/reward": 1.0, f"train/reward/{EVIL}": 0.5} for s in (1, 2)])
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
    write_gallery(tmp_path, "before", [evil])
    parsed = ParsedPage(page.build(tmp_path))
    assert parsed.count("script") == 0 and parsed.count("img") == 0 and parsed.count("article") == 1
    assert all("onerror" not in a for _, a in parsed.elements) and 'alert("x")' in parsed.text


SECRET = "S3cret-value-of-a-variable"


def test_what_steers_a_terminal_or_turns_a_line_is_written_out(tmp_path):
    evil = "\x1b[31m\u202eabc\u2066\x00\x9b \ud800"
    (tmp_path / "config.json").write_text(json.dumps({"policy": {"name": evil}}))
    write_gallery(tmp_path, "before", [record(evil, query=evil, transcript=evil, answer=evil)])
    source = page.build(tmp_path).read_text("utf-8")
    assert not set("\x1b\u202e\u2066\x00\x9b") & set(source)
    assert source.count(r"\x1b[31m\u202eabc\u2066\x00\x9b \ud800") == 6


def test_keys_and_passwords_are_not_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    judge = {"url": f"https://me:{SECRET}x@host/v1?api_key={SECRET}y", "key_env": "JUDGE_KEY", "api_key": "abc"}
    values = {"policy": {"name": SECRET, "path": "hf_abcdefghijklmnopqrst"}, "reward": {"judge": judge}, "token": "def"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    source = page.build(tmp_path).read_text("utf-8")
    for word in (SECRET, "hf_abc", "abc", "def<"):
        assert word not in source.partition("</head>")[2]
    assert "JUDGE_KEY" in source and "https://[hidden]@host/v1?api_key=[hidden]" in source


def test_numbers_and_keys_of_thousands_of_digits(tmp_path):
    digits = "9" * 5000
    (tmp_path / "config.json").write_text(f'{{"seed": {digits}}}')
    write_gallery(tmp_path, "before", [f'{{"uid": "a", "giou": {digits}}}', f'{{"uid": "b", "{digits}": 1}}'])
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": {digits}}}\n{{"step": 1, "{digits}": 1, "train/reward": 1}}\n')
    parsed = ParsedPage(page.build(tmp_path))
    assert parsed.count("article") == 1  # the broken line is left out
    (tmp_path / "config.json").write_text(f'{{"{digits}": {digits[:4000]}}}')
    assert digits[:4000] in ParsedPage(page.build(tmp_path)).text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(sorted(record())), json_values, max_size=6), number=json_values)
def test_any_json_in_any_place(tmp_path_factory, changes, number):
    folder = tmp_path_factory.mktemp("run")
    write_gallery(folder, "after", [record(**changes), json.dumps(number), "[" * 100_000, '{"uid'])
    write_log(folder, [{"step": 1, "train/reward": number, "train/kl": 10**400}, {"step": 10**400}])
    assert ParsedPage(page.build(folder)).count("article") >= 1


def test_missing_files_are_named(tmp_path):
    text = ParsedPage(page.build(tmp_path)).text
    for words in ("No metrics.jsonl", "No predictions yet", "not measured", "nothing recorded", "no config.json"):
        assert words in text
    write_log(tmp_path, [{"step": 0, "eval/giou": 0.5}])
    write_gallery(tmp_path, "before", [record()])
    text = ParsedPage(page.build(tmp_path)).text
    assert "0.500 measured once" in text and "No predictions from after training." in text
