"""A question about a picture of any kind: the files of the answer, at the picture's own size, never over older ones."""

import json

import numpy as np
import pytest
import tiny
from PIL import Image

from dtr1_jax import config
from dtr1_jax.data import image_files, prompts
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.modes import infer
from dtr1_jax.twin import transcript
from dtr1_jax.twin.coordinates import from_unit
from dtr1_jax.twin.schema import Answer, Object, Twin

FILES = {"answer.json", "boxes.json", "mask.png", "overlay.png", "transcript.txt", "twin.json", "twin.png"}


def pictures(folder):
    """Files of many kinds; the upright width and height of each."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6  # stands on its side
    rgb.save(folder / "photo.png")
    rgb.save(folder / "turned.jpg", exif=turned)
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("L").save(folder / "grey.png")
    alpha = rgb.convert("RGBA")
    alpha.putalpha(100)
    alpha.save(folder / "alpha.png")
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.new("RGB", (3000, 2000), "green").save(folder / "large.jpg")
    wide = dict.fromkeys(("photo.png", "cmyk.jpg", "grey.png", "alpha.png"), (60, 40))
    return wide | {"turned.jpg": (40, 60), "dot.png": (1, 1), "large.jpg": (3000, 2000)}


def left_half(c, size):
    """A sound transcript about a picture of that size whose answer is its left half."""
    ready = infer.pretrained.load_policy(c)
    example = infer.Example("", np.zeros((size[1], size[0], 3), np.uint8), "it", "segmentation", None)
    canvas = prompts.prompt(example, ready.style)[2]
    box = from_unit((0.0, 0.0, 0.5, 1.0), canvas)
    twin = Twin(canvas.size, (Object(1, "thing", box),))
    return transcript.compose(twin, "it is on the left", Answer(objects=(1,)))


def test_pictures_of_every_kind(path, small, tmp_path):
    c = tiny.settings(path)
    for name, (width, height) in pictures(tmp_path).items():
        said = left_half(c, (width, height))
        tiny.speak(small, c, [said])
        folder = infer.run(c, tmp_path / "run", str(tmp_path / name), " The left Half ")
        assert {p.name for p in folder.iterdir()} == FILES
        mask = np.asarray(Image.open(folder / "mask.png")) > 0
        expected = np.zeros((height, width), bool)
        expected[:, : max(1, width // 2)] = True
        assert mask.shape == expected.shape and (mask != expected).mean() < 0.02
        answer = json.loads((folder / "answer.json").read_text())
        assert answer["sound"] and answer["answer"] == {"objects": [1]} and answer["faults"] == []
        assert answer["query"] == " The left Half " and answer["thought"] == "it is on the left"
        assert answer["boxes_pixels"][0] == pytest.approx([0, 0, width / 2, height], abs=0.02 * width)
        twin = json.loads((folder / "twin.json").read_text())
        assert twin["frame"] == "pixel" and twin["objects"][0]["label"] == "thing"
        assert (folder / "transcript.txt").read_text() == said
        shape = image_files.load_image(folder / "overlay.png").shape
        assert shape[1] / shape[0] == pytest.approx(width / height, rel=0.01)


def test_several_pictures(path, small, tmp_path):
    """Boxes are those of the first; its name is that of the folder."""
    pictures(tmp_path)
    c = tiny.settings(path, policy__prompt_tokens=128)
    seen = []
    real = infer.pipeline.single_batch
    small.setattr(infer.pipeline, "single_batch", lambda e, s: seen.append(real(e, s)) or seen[-1])
    tiny.speak(small, c, [left_half(c, (60, 40))])
    folder = infer.run(c, tmp_path / "run", f"{tmp_path / 'photo.png'}, {tmp_path / 'turned.jpg'}", "it")
    assert folder.name == "photo"
    assert np.asarray(Image.open(folder / "mask.png")).shape == (40, 60)
    assert seen[0].prompt.images.segment_bn.max() == 2
    assert [m.shape for m in seen[0].examples[0].visuals] == [(40, 60, 3), (60, 40, 3)]


def test_an_earlier_answer_is_never_written_over(path, small, tmp_path):
    c = tiny.settings(path)
    pictures(tmp_path)
    folders = []
    for _ in range(3):
        tiny.speak(small, c, [left_half(c, (60, 40))])
        folders.append(infer.run(c, tmp_path / "run", str(tmp_path / "photo.png"), "it"))
    assert [f.name for f in folders] == ["photo", "photo-2", "photo-3"]


@pytest.mark.parametrize("said", ["", "<twin>{}</twin>", '<twin>{"size":[64,32],"objects":[\ud800', "]" * 200])
def test_nonsense_is_an_answer_that_says_its_faults(path, small, tmp_path, caplog, said):
    c = tiny.settings(path)
    pictures(tmp_path)
    tiny.speak(small, c, [said])
    folder = infer.run(c, tmp_path / "run", str(tmp_path / "photo.png"), "it")
    files = {"answer.json", "overlay.png", "transcript.txt", "twin.json", "twin.png", "boxes.json", "mask.png"}
    assert {p.name for p in folder.iterdir()} == files  # as of any other answer
    assert json.loads((folder / "twin.json").read_text())["objects"] == []
    assert json.loads((folder / "boxes.json").read_text())["boxes"] == []
    assert not np.asarray(Image.open(folder / "mask.png")).any()
    answer = json.loads((folder / "answer.json").read_text())
    assert not answer["sound"] and answer["faults"][0]["message"] and answer["answer"] is None
    assert "The answer is unsound, so its boxes, mask or words are empty" in caplog.text
    assert answer["faults"][0]["message"] in caplog.text


def test_random_weights_answer_something(path, small, tmp_path):
    pictures(tmp_path)
    folder = infer.run(tiny.settings(path), tmp_path / "run", str(tmp_path / "photo.png"), "it")
    assert (folder / "answer.json").exists()


def test_a_query_is_asked_as_the_cold_start_asks(path, small, tmp_path):
    c = tiny.settings(path)
    pictures(tmp_path)
    seen = []
    real = infer.pipeline.single_batch
    small.setattr(infer.pipeline, "single_batch", lambda e, s: seen.append(e.query) or real(e, s))
    tiny.speak(small, c, [left_half(c, (1, 1))])
    infer.run(c, tmp_path / "run", str(tmp_path / "dot.png"), "  The MUG ")
    assert seen == ["the mug"]


def bad(tmp_path):
    """(picture, query, error, message)"""
    (tmp_path / "corrupt.jpg").write_bytes((tmp_path / "large.jpg").read_bytes()[:900])
    (tmp_path / "words.jpg").write_text("no picture")
    (tmp_path / "empty").mkdir()
    photo = str(tmp_path / "photo.png")
    return [
        (str(tmp_path / "none.jpg"), "it", ImageError, "none.jpg: no such file"),
        (str(tmp_path / "corrupt.jpg"), "it", ImageError, "corrupt.jpg: the picture is corrupt"),
        (str(tmp_path / "words.jpg"), "it", ImageError, "words.jpg: not a picture"),
        (f"{photo},{tmp_path / 'none.jpg'}", "it", ImageError, "none.jpg: no such file"),
        (str(tmp_path / "empty"), "it", ImageError, "empty: a video with 0 frames"),
        (photo, None, config.ConfigError, "needs --query=.* and --image=photo.jpg"),
        (photo, "  ", config.ConfigError, "needs --query=.* and --image=photo.jpg"),
        (None, "it", config.ConfigError, "needs --query=.* and --image=photo.jpg"),
        (photo, "word " * 99, prompts.PromptError, "prompt has .* tokens.*policy.prompt_tokens = 208"),
    ]


def test_bad_input_is_refused_and_leaves_no_folder(path, small, tmp_path):
    pictures(tmp_path)
    for picture, query, error, message in bad(tmp_path):
        with pytest.raises(error, match=message):
            infer.run(tiny.settings(path), tmp_path / "run", picture, query)
    with pytest.raises(config.ConfigError, match="none': no such file or folder"):
        infer.run(tiny.settings(str(tmp_path / "none")), tmp_path / "run", str(tmp_path / "photo.png"), "it")
    assert not (tmp_path / "run").exists()
