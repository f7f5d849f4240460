"""Whole runs whose policy, data and workdir are in a bucket: nothing of them lands in a local folder by mistake."""

import json
import pathlib
import types

import buckets
import pytest
import tiny
from PIL import Image

from dtr1_jax import config, mesh, places, settings_of_run
from dtr1_jax.modes import dispatch, export, sft
from dtr1_jax.policies import policy_files
from dtr1_jax.run import bucket_lock, local_copy, run_log

URL = "gs://bucket/runs/a"
NONE = dispatch.Options()


@pytest.fixture
def run(path, small, tmp_path, monkeypatch):
    """A function that starts a mode with the policy of the bucket, in an empty folder."""
    monkeypatch.setenv("DTR1_JAX_COPIES", str(tmp_path / "copies"))
    monkeypatch.setattr(bucket_lock, "_SETTLE", 0.0)
    monkeypatch.chdir(tmp_path)
    local_copy._copied.cache_clear()
    with buckets.with_checkpoints():
        buckets.put("bucket/policies/tiny/policy.safetensors", pathlib.Path(path).read_bytes())

        def start(mode: str, workdir: str | None = URL, options=NONE, **changes) -> int:
            values = tiny.values("gs://bucket/policies/tiny/policy.safetensors", **changes)
            return dispatch.run(mode, values, workdir, options)

        yield start
        assert {entry.name for entry in tmp_path.iterdir()} <= {"copies", "photo.png"}
    local_copy._copied.cache_clear()


def names(folder: str) -> set[str]:
    start = f"bucket/runs/a/{folder}"
    return {name.removeprefix(start) for name in buckets.objects if name.startswith(start)}


@pytest.mark.slow
def test_train_stop_resume_evaluate_ask_and_export(run, tmp_path, capsys, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        tiny.signals(patch, "TERM@learn:2")
        assert run("train") == dispatch.STOPPED
    assert [row["step"] for row in run_log.read_run_log(URL)] == [0, 1, 2] and "run.lock" not in names("")
    assert run("train") == 0 and f"report: {URL}/report.html" in capsys.readouterr().out
    assert [row["step"] for row in run_log.read_run_log(URL)] == [0, 1, 2, 3, 4, 4]
    assert {"config.json", "metrics.jsonl", "report.html", "samples/step_000002.md"} <= names("")
    assert {"before/predictions.jsonl", "after/predictions.jsonl", "after/0000_image.png"} <= names("gallery/")
    assert b"data:image/png;base64" in buckets.objects["bucket/runs/a/report.html"][0]

    assert run("eval", options=dispatch.Options(name="mine")) == 0
    table = capsys.readouterr().out
    assert {"eval.json", "predictions.jsonl"} <= names("evaluations/mine/")
    assert run("rescore", options=dispatch.Options(predictions=f"{URL}/evaluations/mine/predictions.jsonl")) == 0
    assert capsys.readouterr().out.startswith(table.rstrip()[:200])

    Image.new("RGB", (64, 64), "red").save(tmp_path / "photo.png")
    buckets.put("bucket/photo.png", (tmp_path / "photo.png").read_bytes())
    ask = dispatch.Options(image="gs://bucket/photo.png", query="the red thing", task="grounding")
    assert run("infer", options=ask) == 0 == run("infer", options=ask)
    answers = {name.partition("/")[0] for name in names("infer/")}
    assert len(answers) == 2 and all(name.startswith("photo-") for name in answers)  # no answer is overwritten
    answer = next(name for name in names("infer/") if name.endswith("/answer.json"))
    assert json.loads(buckets.objects[f"bucket/runs/a/infer/{answer}"][0])["query"] == "the red thing"

    def write(c, pretrained_policy, folder, params, lora):  # tiny.SPEC is none of the sizes that can be exported
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(export, "write_merged", write)
    assert run("export", options=dispatch.Options(out="gs://bucket/exported")) == 0
    assert buckets.objects["bucket/exported/config.json"][0] == b"{}"
    assert run("export", options=dispatch.Options(out="gs://bucket/exported")) == 1
    assert "expected a new or empty folder" in capsys.readouterr().err


def test_what_sft_writes_is_what_grpo_and_export_read(run, monkeypatch):
    def write(c, pretrained_policy, folder, weights, more):
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / name).write_text(f"{weights}")

    monkeypatch.setattr(export, "write_adapter", write)
    monkeypatch.setattr(mesh, "whole", lambda device_mesh, weights: weights)
    values = tiny.values("gs://bucket/policies/tiny/policy.safetensors", lora__rank=4)
    ours = types.SimpleNamespace(checkpoint=None)  # a policy of our own
    for weights in ("first", "second"):
        place = sft._write(config.from_configdict(values), ours, None, places.path(URL), {"lora": weights})
    assert str(place) == f"{URL}/adapter" and names("adapter/") == {"adapter_config.json", "adapter_model.safetensors"}
    values.policy.adapter = str(place)
    copy = policy_files.adapter_path(config.from_configdict(values))
    assert copy.is_dir() and (copy / "adapter_model.safetensors").read_text() == "second"
    with pytest.raises(places.PlaceError, match=r"config\.policy\.adapter=gs://bucket/none: cannot be copied"):
        values.policy.adapter = "gs://bucket/none"
        policy_files.adapter_path(config.from_configdict(values))


def test_a_second_run_is_refused(run, capsys, monkeypatch):
    monkeypatch.setattr(bucket_lock, "_BEAT", 0.05)
    with bucket_lock.hold(URL, "train"):
        assert run("train") == 1
    assert f"another run writes to {URL}: --mode=train" in capsys.readouterr().err


def test_data_in_a_bucket(run, capsys, tmp_path):
    picture = tmp_path / "copies" / "x.png"
    picture.parent.mkdir(exist_ok=True)
    for i in range(2):
        Image.new("RGB", (64, 64), (40 * i, 9, 9)).save(picture)
        buckets.put(f"bucket/data/pictures/{i}.png", picture.read_bytes())
    lines = [
        {"image": f"pictures/{i}.png", "query": "the thing", "boxes": [[0, 0, 32, 32]], "split": split}
        for i, split in enumerate(("train", "heldout"))
    ]
    buckets.put("bucket/data/mine.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    data = {"data__source": "jsonl", "data__task": "grounding", "data__train_split": "train"}
    # the lines name pictures beside them, so the folder is copied where data.root is a file of it
    assert run("check", data__root="gs://bucket/data/mine.jsonl", **data) == 0
    assert "usable: 1 of a sample for train and 1" in capsys.readouterr().out
    buckets.put("bucket/top.jsonl", b"")
    assert run("check", data__root="gs://bucket/top.jsonl", **data) == 1
    assert "got a file at the bucket's top" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mode", "options", "changes", "message"),
    [
        ("train", {"workdir": "s3://bucket/run"}, {}, "--workdir=s3://bucket/run: checkpoints can be saved in gs://"),
        ("train", {"workdir": "gs:/bucket/run"}, {}, "gs:/bucket/run: expected a path of this machine, gs://BUCKET"),
        ("sft", {"workdir": "az://c/run"}, {}, "az://c/run: expected a path of this machine"),
        ("perceive", {"out": "gs://bucket/x"}, {"specialists__detector": "d"}, "--out=gs://bucket/x: expected a path"),
        (
            "perceive",
            {"out": "copies", "images": "gs://bucket/x"},
            {"specialists__detector": "d"},
            "--images=gs://buck",
        ),
        ("perceive", {"out": "copies", "video": "gs://bucket/x"}, {"specialists__detector": "d"}, "--video=gs://buck"),
        ("fetch", {"out": "gs://bucket/x"}, {}, "--out=gs://bucket/x: expected a path of this machine, got an address"),
        ("convert", {"source": "gs://bucket/x", "out": "x.jsonl"}, {}, "--from=gs://bucket/x: expected a path"),
        ("convert", {"source": "x", "out": "gs://bucket/x.jsonl"}, {}, "--out=gs://bucket/x.jsonl: expected a path"),
        ("convert", {"source": "x", "out": "x.jsonl", "images": "gs://bucket/x"}, {}, "--images=gs://bucket/x: expe"),
        ("rescore", {"predictions": "gs://bucket/none"}, {}, "gs://bucket/none: cannot be read"),
        ("train", {}, {"policy__path": "gs://bucket/none"}, "config.policy.path=gs://bucket/none: cannot be copied"),
        ("export", {"out": "https://host/x"}, {}, "https://host/x: expected a path of this machine"),
    ],
)
def test_what_cannot_be_is_refused_by_name(run, capsys, mode, options, changes, message):
    workdir = options.pop("workdir", URL)
    assert run(mode, workdir, dispatch.Options(**options), **changes) == 1
    assert message in capsys.readouterr().err


def test_the_settings_of_somebody_elses_workdir_fetch_nothing(run, tmp_path):
    inputs = {"data.phrases": "gs://bucket/words.json", "reward.idf": "gs://bucket/idf.json"}
    inputs |= {"data.root": "gs://bucket/data", "reward.segmenter": "sam:gs://bucket/sam"}
    values = tiny.values("gs://bucket/policies/tiny/policy.safetensors", **inputs)
    buckets.put("bucket/runs/a/config.json", json.dumps(config.to_dict(config.from_configdict(values))).encode())
    taken = settings_of_run.get_config(URL)
    assert (taken.policy.path, taken.reward.idf, taken.reward.segmenter) == ("", "", "grabcut")
    assert settings_of_run.withheld(URL) == inputs | {"policy.path": "gs://bucket/policies/tiny/policy.safetensors"}
    with pytest.raises(ValueError, match=f"{URL}2/config.json: expected a JSON object"):
        settings_of_run.get_config(f"{URL}2")
    assert not (tmp_path / "copies").exists()
