"""A question about a video, or in another task: oracle transcripts become masks, boxes, words and moving pictures."""

import dataclasses
import json
import sys

import checkpoints
import numpy as np
import pytest
import tiny
from PIL import Image

from configs import seg
from dtr1_jax import config, draw
from dtr1_jax.data import demonstrations, prompts
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.twinworld import tasks
from dtr1_jax.evaluation import answers
from dtr1_jax.modes import infer
from dtr1_jax.twin import transcript
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.types import Example, Video

T = 8  # frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A policy that takes videos."""
    path = tmp_path_factory.mktemp("qwen3_vl")
    checkpoints.write(path, "qwen3_vl")
    return str(path)


def settings(folder, **changes):
    changes = {"policy__name": "auto", "policy__fps": 24.0, "policy__prompt_tokens": 256, **changes}
    return tiny.settings(folder, **changes)


def filmed(tmp_path, task, i=0):
    """(an example of TwinWorld, the folder of its frames)."""
    example = tasks.example(task, 3, "train", i, video=True, frames=T, max_objects=4)
    path = tmp_path / "film"
    path.mkdir()
    for k, frame in enumerate(example.visuals[0].frames):
        Image.fromarray(frame).save(path / f"{k:04d}.png")
    return example, path


def ask(patch, c, folder, example, said=None, **named):
    """The folder of the answer of a policy that says `said`, or what is right."""
    canvas = prompts.prompt(example, infer.pretrained.load_policy(c).style)[2]
    tiny.speak(patch, c, [demonstrations.oracle(example, canvas) if said is None else said(canvas)])
    return infer.run(c, folder, named.pop("image", None), "What Moves?", task=example.task, **named)


def names(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


ALWAYS = {"answer.json", "overlay.gif", "overlay.mp4", "transcript.txt", "twin.json", "twin.png"}
MASKS = {f"masks/{k:06d}.png" for k in range(T)}


def overlap(a, b):
    return (a & b).sum() / max(1, (a | b).sum())


def test_masks_of_every_frame(folder, monkeypatch, tmp_path):
    pytest.importorskip("av")
    example, path = filmed(tmp_path, "segmentation", 1)
    assert example.target.masks.any()
    made = ask(monkeypatch, settings(folder), tmp_path / "run", example, video=str(path))
    assert made.name == "film" and names(made) == ALWAYS | MASKS | {"boxes.json"}
    for k in range(T):
        mask = np.asarray(Image.open(made / "masks" / f"{k:06d}.png")) > 0
        want = np.zeros_like(mask)
        for box in example.target.tracks[:, k]:
            x1, y1, x2, y2 = np.rint(box * 96).astype(int)
            want[y1:y2, x1:x2] = True
        assert mask.shape == (96, 96) and (overlap(mask, want) > 0.75 if want.any() else not mask.any())
    answer = json.loads((made / "answer.json").read_text())
    assert answer["sound"] and answer["answer"] == {"objects": list(example.answer_ids)}
    assert answer["query"] == "What Moves?" and answer["task"] == "segmentation" and not answer["segmenter_failed"]
    boxes = json.loads((made / "boxes.json").read_text())
    assert boxes["size"] == [96, 96] and [f["frame"] for f in boxes["frames"]] == list(range(T))


def close(pixels, colour):
    return (np.abs(pixels.astype(int) - colour).max(-1) < 60).any()


def test_the_moving_picture_shows_tracks_and_answer(folder, monkeypatch, tmp_path):
    av = pytest.importorskip("av")
    example, path = filmed(tmp_path, "segmentation", 1)
    made = ask(monkeypatch, settings(folder), tmp_path / "run", example, video=str(path))
    boxes = json.loads((made / "boxes.json").read_text())["frames"]
    gif = Image.open(made / "overlay.gif")
    assert gif.n_frames == T and gif.info["duration"] == pytest.approx(1000 / 24, abs=10) and gif.info["loop"] == 0
    shown = [np.asarray((gif.seek(k), gif.convert("RGB"))[1]) for k in range(T)]
    with av.open(str(made / "overlay.mp4")) as container:
        film = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(film) == T and film[0].shape == shown[0].shape == (384, 384, 3)
    for k, frame in enumerate(shown):
        for row in boxes[k]["boxes"]:
            x1, y1, x2, y2 = (round(4 * v) for v in row["box"])
            around = frame[max(0, y1 - 8) : y2 + 8, max(0, x1 - 8) : x2 + 8]
            assert close(around, draw.MASK) and close(
                around, draw.color([o.id for o in example.scene].index(row["id"]) + 1)
            )
            assert np.abs(film[k].astype(int) - frame).mean() < 12


@pytest.mark.parametrize("task", ["grounding", "vqa", "summary"])
def test_the_form_of_each_task(folder, monkeypatch, tmp_path, task):
    pytest.importorskip("av")
    example, path = filmed(tmp_path, task, 2)
    made = ask(monkeypatch, settings(folder), tmp_path / "run", example, video=str(path))
    if task == "grounding":
        assert names(made) == ALWAYS | {"boxes.json"}
        for k, frame in enumerate(json.loads((made / "boxes.json").read_text())["frames"]):
            found = np.array([row["box"] for row in frame["boxes"]]).reshape(-1, 4)
            seen = [box * 96 for box in example.target.tracks[:, k] if box[2] > box[0]]
            np.testing.assert_allclose(np.sort(found, 0), np.sort(np.reshape(seen, (-1, 4)), 0), atol=0.017 * 96)
    else:
        assert names(made) == ALWAYS | {"answer.txt"}
        assert (made / "answer.txt").read_text() == example.target.references[0] + "\n"


def moving(answer):
    """A transcript of an object that crosses the picture from frame 0 to 6, hides at 4, and of one that stands."""

    def said(canvas):
        w, h = canvas.limit
        track = ((0, (0, 0, w // 5, h)), (4, None), (5, (w // 2, 0, w // 2 + w // 5, h)), (6, (4 * w // 5, 0, w, h)))
        objects = (Object(3, "bus", None, track=track, velocity=(9, 0)), Object(7, "sign", (0, 0, w // 2, h // 2)))
        return transcript.compose(Twin(canvas.size, objects, frames=canvas.frames), "so", answer(canvas))

    return said


def test_boxes_move_between_keyframes(folder, monkeypatch, tmp_path):
    example, path = filmed(tmp_path, "grounding")
    c = settings(folder)
    made = ask(monkeypatch, c, tmp_path / "run", example, moving(lambda _: Answer(objects=(3, 7))), video=str(path))
    frames = json.loads((made / "boxes.json").read_text())["frames"]
    assert [[row["id"] for row in f["boxes"]] for f in frames] == [[3, 7]] * 4 + [[7]] + [[3, 7]] * 2 + [[7]]
    assert [f["boxes"][0]["box"][0] for f in frames[:7]] == pytest.approx([0, 0, 0, 0, 0, 48, 76.8])
    assert all(f["boxes"][-1]["box"] == [0, 0, 48, 48] for f in frames)
    twin = json.loads((made / "twin.json").read_text())
    assert twin["frame"] == "norm1000" and twin["objects"][0]["track"]["4"] is None
    said = moving(lambda canvas: Answer(boxes=((0, 0, canvas.limit[0] // 2, canvas.limit[1]),)))
    made = ask(monkeypatch, c, tmp_path / "run", example, said, video=str(path))
    frames = json.loads((made / "boxes.json").read_text())["frames"]
    assert frames[0]["boxes"] == [{"id": None, "box": [0, 0, 48, 96]}]  # of the first frame, as nothing says more
    assert made.name == "film-2" and not any(f["boxes"] for f in frames[1:])


@pytest.mark.parametrize("count", [1, 2])
def test_short_videos(folder, monkeypatch, tmp_path, count):
    example, path = filmed(tmp_path, "segmentation")
    for k in range(count, T):
        (path / f"{k:04d}.png").unlink()
    film = Video(example.visuals[0].frames[:count], np.arange(count), 24.0, count)
    short = Example("", example.image, "it", "segmentation", example.target, visuals=(film,))

    def said(canvas):
        twin = Twin(canvas.size, (Object(1, "it", (0, 0, *canvas.limit)),), frames=canvas.frames)
        return transcript.compose(twin, "", Answer(objects=(1,)))

    made = ask(monkeypatch, settings(folder), tmp_path / "run", short, said, video=str(path))
    assert len(list((made / "masks").iterdir())) == count == Image.open(made / "overlay.gif").n_frames
    assert (np.asarray(Image.open(made / "masks" / "000000.png")) == 255).all()


@pytest.mark.parametrize("said", ["", "<twin>{}</twin>", "]" * 200])
def test_nonsense_about_a_video(folder, monkeypatch, tmp_path, said):
    monkeypatch.setitem(sys.modules, "av", None)
    example, path = filmed(tmp_path, "segmentation")
    made = ask(monkeypatch, settings(folder), tmp_path / "run", example, lambda _: said, video=str(path))
    assert names(made) == ALWAYS - {"overlay.mp4"} | MASKS | {
        "boxes.json"
    }  # no film without PyAV, masks without pixels
    assert not any(np.asarray(Image.open(made / name)).any() for name in MASKS)
    assert json.loads((made / "answer.json").read_text())["faults"]


def test_a_picture_beside_a_video(folder, monkeypatch, tmp_path):
    """The answer is about the video."""
    example, path = filmed(tmp_path, "segmentation", 1)
    Image.new("RGB", (60, 40), "red").save(tmp_path / "photo.png")
    seen, real = [], infer.pipeline.single_batch
    monkeypatch.setattr(infer.pipeline, "single_batch", lambda e, s: seen.append(e) or real(e, s))
    c = settings(folder, policy__prompt_tokens=512)
    made = ask(monkeypatch, c, tmp_path / "run", example, video=str(path), image=[str(tmp_path / "photo.png")] * 2)
    assert names(made) >= MASKS
    assert [type(x) for x in seen[0].visuals] == [Video, np.ndarray, np.ndarray]


def test_words_about_a_picture(path, small, tmp_path):
    example = tasks.example("vqa", 3, "train", 0, max_objects=4)
    Image.fromarray(example.image).save(tmp_path / "scene.png")
    made = ask(small, tiny.settings(path), tmp_path / "run", example, image=[str(tmp_path / "scene.png")])
    assert names(made) == {"answer.json", "answer.txt", "overlay.png", "transcript.txt", "twin.json", "twin.png"}
    strange, canvas = "\N{HEBREW LETTER ALEF}\N{SNOWMAN}" + "long " * 20_000, Canvas(Frame.NORM1000, (96, 96))
    said = transcript.Transcript("", {}, None, "", Answer(text=strange + "\ud800"), ())
    answers.write_answer(tmp_path, example, canvas, said, answers.resolve_frames(example, canvas, said, None), {})
    assert (tmp_path / "answer.txt").read_text() == strange + "\\ud800\n"


def bad(tmp_path):
    """(arguments, error, message)"""
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.mp4").write_text("no video")
    (tmp_path / "nothing.mp4").touch()
    photo = str(tmp_path / "photo.png")
    Image.new("RGB", (40, 40)).save(photo)
    return [
        ({"video": str(tmp_path / "none.mp4")}, ImageError, "none.mp4: no such file"),
        ({"video": str(tmp_path / "empty")}, ImageError, "empty: a video with 0 frames"),
        ({"video": str(tmp_path / "words.mp4")}, ImageError, "words.mp4: not a video, or a corrupt one|needs PyAV"),
        ({"video": str(tmp_path / "nothing.mp4")}, ImageError, "nothing.mp4: the file is empty"),
        ({"video": photo, "image": [str(tmp_path / "none.png")]}, ImageError, "none.png: no such file|needs PyAV"),
        ({"image": [photo], "task": "sumary"}, config.ConfigError, "--task: expected one of .*summary, got 'sumary'"),
        ({}, config.ConfigError, "needs --query=.* and --image=photo.jpg or --video=street.mp4"),
    ]


def test_bad_videos_are_refused_and_leave_no_folder(folder, small, tmp_path):
    for named, error, message in bad(tmp_path):
        with pytest.raises(error, match=message):
            infer.run(settings(folder), tmp_path / "run", named.pop("image", None), "it", **named)
    small.setitem(sys.modules, "av", None)
    with pytest.raises(ImageError, match=r"words.mp4: reading video files needs PyAV: pip install"):
        infer.run(settings(folder), tmp_path / "run", None, "it", video=str(tmp_path / "words.mp4"))
    of_all = dataclasses.replace(settings(folder), data=dataclasses.replace(settings(folder).data, task="unified"))
    with pytest.raises(config.ConfigError, match=r"config\.data\.task = 'unified': add --task, one of segm"):
        infer.run(of_all, tmp_path / "run", str(tmp_path / "photo.png"), "it")
    assert not (tmp_path / "run").exists()


def film(folder, frames):
    """A folder of frames."""
    folder.mkdir()
    for k, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{k:02d}.png")
    return str(folder)


@pytest.mark.parametrize("task", ["segmentation", "summary"])
def test_the_shipped_policy_sees_a_video_also_with_the_settings_of_one_task(tmp_path, task):
    pytest.importorskip("av")
    example = tasks.example(task, 3, "train", 0, video=True, frames=4, max_objects=3)
    shown = film(tmp_path / "film", example.visuals[0].frames)
    c = config.from_configdict(seg.get_config())
    made = infer.run(c, tmp_path / "run", None, example.query, video=shown, task=task)
    assert names(made) >= ALWAYS - {"twin.png"}
    twin = json.loads((made / "twin.json").read_text())
    assert twin["frames"] == [0, 1, 2, 3] and twin["objects"]


@pytest.mark.parametrize(
    "numbers, masks", [([0, 0, 0, 1, 1, 1, 2, 2, 2, 3], [0, 3, 6, 9]), ([0], [0])], ids=["ten frames", "one frame"]
)
def test_the_shipped_policy_counts_the_frames_that_it_sees(tmp_path, numbers, masks):
    """A brief prompt says no numbers of frames, and the policy has seen four at a time alone."""
    example = tasks.example("segmentation", 3, "train", 0, video=True, frames=4, max_objects=3)
    # of another shape too, which is a square to the policy
    frames = [np.asarray(Image.fromarray(example.visuals[0].frames[i]).resize((128, 96))) for i in numbers]
    c = config.from_configdict(seg.get_config())
    made = infer.run(
        c, tmp_path / "run", None, example.query, video=film(tmp_path / "film", frames), task="segmentation"
    )
    answer, twin = (json.loads((made / f"{name}.json").read_text()) for name in ("answer", "twin"))
    assert answer["sound"] or len(numbers) == 1, answer["faults"]  # a film in which nothing moves is new to it
    assert not {"twin.frames", "twin.size"} & {fault["where"] for fault in answer["faults"]}
    assert twin["frames"] == [0, 1, 2, 3] and twin["size"] == [96, 96]
    assert sorted(path.name for path in (made / "masks").iterdir()) == [f"{i:06d}.png" for i in masks]
    assert all(Image.open(path).size == (128, 96) for path in (made / "masks").iterdir())
    assert {row["frame"] for row in json.loads((made / "boxes.json").read_text())["frames"]} == set(masks)
