"""Videos: which frames are sampled, as transformers does; files and folders of frames, whole and broken."""

import dataclasses
import json
import pathlib
import sys

import numpy as np
import processors
import pytest
from PIL import Image

from dtr1_jax.data import image_files, processor, video_files

FIXTURES = json.loads((pathlib.Path(__file__).parents[1] / "fixtures" / "processors.json").read_text("utf-8"))
STEPS = processor.DEFAULTS["qwen2_5_vl"].video
ENDS = processor.DEFAULTS["qwen3_vl"].video


@pytest.mark.parametrize("family", processors.FAMILIES)
def test_samples_as_transformers(family):
    rule = processors.geometry(family).video
    for (total, fps), expected in zip(processors.SAMPLES, FIXTURES[family]["samples"]):
        index = video_files.sample_indices(total, fps, rule, 2)
        assert (np.diff(index) > 0).all()
        assert 0 <= index[0] <= index[-1] < total
        if expected is None:  # transformers fails on what is shorter than a temporal patch
            assert total < 2
        else:
            assert processors.short(index) == expected, (total, fps)


def test_samples_by_hand():
    assert video_files.sample_indices(10, 5.0, dataclasses.replace(ENDS, min_frames=2), 2).tolist() == [0, 3, 6, 9]
    assert video_files.sample_indices(10, 5.0, dataclasses.replace(STEPS, min_frames=2), 2).tolist() == [0, 2, 5, 7]
    assert video_files.sample_indices(100, 1.0, dataclasses.replace(ENDS, max_frames=4), 2).tolist() == [0, 33, 66, 99]
    assert video_files.sample_indices(100, 1.0, dataclasses.replace(STEPS, max_frames=5), 2).tolist() == [0, 25, 50, 75]
    assert video_files.sample_indices(3, 1.0, ENDS, 2).tolist() == [0, 1, 2]
    assert video_files.sample_indices(3, 1.0, STEPS, 2).tolist() == [0, 1]
    assert (
        video_files.sample_indices(1, 1.0, STEPS, 2).tolist()
        == video_files.sample_indices(1, 1.0, ENDS, 2).tolist()
        == [0]
    )
    with pytest.raises(ValueError, match="0 frames"):
        video_files.sample_indices(0, 24.0, ENDS, 2)


def test_seconds_by_hand():
    assert video_files.patch_seconds([0, 10, 20, 30], 10.0, 2) == [0.5, 2.5]
    assert video_files.patch_seconds([0, 10, 20], 10.0, 2) == [0.5, 2.0]  # the last frame twice
    assert video_files.patch_seconds([5, 6, 7], 2.0, 1) == [2.5, 3.0, 3.5]


def shades(folder, count, size=(32, 24)):
    """Frames whose grey value is 10 x their number."""
    folder.mkdir()
    for i in range(count):
        Image.new("RGB", size, (10 * i,) * 3).save(folder / f"{i:03}.png")
    return folder


def greys(video):
    return (video.frames.reshape(len(video.frames), -1).mean(1) / 10).round().astype(int).tolist()


def test_a_folder_of_frames(tmp_path):
    folder = shades(tmp_path / "clip", 10)
    (folder / "notes.txt").write_text("no frame")
    video = video_files.load_video(folder, ENDS, 2, fps=5.0)
    assert video.frames.shape == (4, 24, 32, 3)
    assert (video.fps, video.total) == (5.0, 10)
    assert video.index.tolist() == greys(video) == [0, 3, 6, 9]
    assert video.sampled_fps == 2.0
    fast = video_files.load_video(folder, dataclasses.replace(ENDS, fps=5.0), 2, fps=5.0)
    assert greys(fast) == list(range(10))


def test_a_folder_with_a_frame_of_another_size(tmp_path):
    folder = shades(tmp_path / "clip", 4)
    for size in ((9, 8), (64, 24), (100, 100)):  # smaller, larger in one direction, larger
        picture = np.zeros((*size[::-1], 3), np.uint8)
        picture[:, size[0] // 2 :] = 200
        Image.fromarray(picture).save(folder / "002.png")
        video = video_files.load_video(folder, ENDS, 2)
        assert video.frames.shape == (4, 24, 32, 3) and video.index.tolist() == [0, 1, 2, 3]
        assert np.all(video.frames[2, :, :12] == 0) and np.all(video.frames[2, :, 20:] == 200)
        assert np.all(video.frames[1] == 10) and np.all(video.frames[3] == 30)
    (folder / "001.png").write_bytes(b"x")
    with pytest.raises(image_files.ImageError, match=r"001.png: not a picture"):
        video_files.load_video(folder, ENDS, 2)


def encode(path, count, size=(64, 48), fps=10, **options):
    av = pytest.importorskip("av")
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *size, "yuv420p", 4_000_000
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 10 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_file(tmp_path):
    file = encode(tmp_path / "clip.mp4", 20)
    video = video_files.load_video(file, ENDS, 2)
    assert video.frames.shape == (4, 48, 64, 3) and video.frames.dtype == np.uint8
    assert (video.fps, video.total) == (10.0, 20)
    assert video.index.tolist() == greys(video) == [0, 6, 13, 19]
    video = video_files.load_video(file, STEPS, 2)
    assert video.index.tolist() == greys(video) == [0, 5, 10, 15]


@pytest.mark.parametrize(("kind", "length"), [("avi", "1.20"), ("mkv", "2.40")])  # of AVI, FFmpeg corrects the header
def test_a_file_that_breaks_off(tmp_path, kind, length):
    whole = encode(tmp_path / f"clip.{kind}", 24, size=(256, 192))
    assert video_files.load_video(whole, ENDS, 2).total == 24
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(
        image_files.ImageError, match=rf"cut\.{kind}: breaks off after [01]\.\d\d of {length} seconds; fetch"
    ):
        video_files.load_video(cut, ENDS, 2)


def test_sound_that_goes_on_after_the_pictures(tmp_path):
    """The file states the longer of both, and is whole."""
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for i in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * i, np.uint8), format="rgb24")
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        for i in range(30):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, 800 * i
            container.mux(sound.encode(frame))
    with av.open(str(tmp_path / "clip.mkv")) as container:
        assert container.duration == 3_000_000
    assert greys(video_files.load_video(tmp_path / "clip.mkv", dataclasses.replace(ENDS, fps=10.0), 2)) == list(
        range(6)
    )


def test_a_file_without_a_length_has_the_frames_that_decode(tmp_path):
    av = pytest.importorskip("av")
    file = encode(tmp_path / "clip.mkv", 24, size=(256, 192), live="1")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with av.open(str(cut)) as container:
        assert container.duration is None
    video = video_files.load_video(cut, ENDS, 2)
    assert 1 < video.total < 24 and greys(video) == video.index.tolist()


def test_broken_files(tmp_path):
    for name, content, words in (
        ("empty.mp4", b"", "the file is empty"),
        ("noise.mp4", bytes(range(256)) * 40, "not a video, or a corrupt one"),
        ("text.mp4", b"#EXTM3U\nhttp://host/clip.ts\n", "not a video, or a corrupt one"),
    ):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(image_files.ImageError, match=f"{file}: {words}"):
            video_files.load_video(file, ENDS, 2)


def test_frames_that_do_not_decode(tmp_path, monkeypatch):
    file = encode(tmp_path / "clip.mp4", 20)
    decode = video_files._decode
    for lost, total in ((1, 19), (10, None)):
        monkeypatch.setattr(
            video_files, "_decode", lambda av, path, index, lost=lost: _short(decode(av, path, index), index, 20 - lost)
        )
        if total:  # the header or the packets promised a little more than there is
            video = video_files.load_video(file, ENDS, 2)
            assert video.total == total and video.index.tolist() == greys(video) == [0, 6, 12, 18]
        else:
            with pytest.raises(image_files.ImageError, match=r"clip.mp4: breaks off after 10 of 20 frames"):
                video_files.load_video(file, ENDS, 2)


def _short(decoded, index, count):
    return [f for f, i in zip(decoded[0], index) if i < count], min(decoded[1], count)


def test_nothing_to_see(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(image_files.ImageError, match=r"none: a video with 0 frames: expected pictures \(.jpg"):
        video_files.load_video(tmp_path / "none", ENDS, 2)
    with pytest.raises(image_files.ImageError, match=r"missing.mp4: no such file"):
        video_files.load_video(tmp_path / "missing.mp4", ENDS, 2)
    av = pytest.importorskip("av")
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(image_files.ImageError, match=r"sound.wav: expected a video, got a file without pictures"):
        video_files.load_video(sound, ENDS, 2)


def test_too_much_at_once(tmp_path, monkeypatch):
    file = encode(tmp_path / "clip.mp4", 20)
    monkeypatch.setattr(video_files, "MAX_BYTES", 10_000)
    with pytest.raises(
        image_files.ImageError, match=r"clip.mp4: 4 frames of 64 x 48 pixels take too much memory; sample fewer"
    ):
        video_files.load_video(file, ENDS, 2)
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(8):
        Image.new("RGB", (64, 48)).save(folder / f"{i}.png")
    with pytest.raises(
        image_files.ImageError, match=r"frames: \d frames of 64 x 48 pixels take too much memory; sample fewer"
    ):
        video_files.load_video(folder, ENDS, 2)


def test_without_pyav(tmp_path, monkeypatch):
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        image_files.ImageError, match=r"clip.mp4: reading video files needs PyAV: pip install .*\[video\]"
    ):
        video_files.load_video(file, ENDS, 2)


def test_upright():
    """The camera's note says by how much to turn counter-clockwise."""
    frame = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    assert video_files._upright(frame, 0) is frame
    assert video_files._upright(frame, 90)[..., 0].tolist() == [[2, 5], [1, 4], [0, 3]]
    assert video_files._upright(frame, -90)[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]
    assert video_files._upright(frame, 180)[..., 0].tolist() == [[5, 4, 3], [2, 1, 0]]


def test_frames_are_sorted_by_the_numbers_in_their_names(tmp_path):
    cases = (
        ["frame_1.jpg", "frame_2.png", "frame_10.jpg", "frame_11.JPG", "frame_100.jpg"],
        ["f_007.png", "f_8.png", "f_0009.png", "f_10.png"],
        ["1.png", "2.jpg", "3.png", "10.jpg", "400.png"],
        ["cam1_2.png", "cam1_10.png", "cam2_1.png"],
        ["IMG_9.png", "img_10.png", "IMG_11.png"],
    )
    for i, names in enumerate(cases):
        folder = tmp_path / str(i)
        folder.mkdir()
        for k, name in sorted(enumerate(names), key=lambda pair: pair[1]):
            Image.new("RGB", (4, 4), (k, 0, 0)).save(folder / name, format="PNG")
        (folder / f"._{names[0]}").write_bytes(b"the file of another system")
        assert [file.name for file in video_files.list_frames(folder)] == names
        assert video_files.load_evenly(folder, 9).frames[:, 0, 0, 0].tolist() == list(range(len(names)))


def test_a_path_that_the_system_cannot_open_is_an_image_error(tmp_path, monkeypatch):
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    for name in ("x" * 300 + ".mp4", "loop.mp4", "a\0.mp4"):
        with pytest.raises(image_files.ImageError):
            video_files.load_evenly(tmp_path / name, 2)

    def fail(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "iterdir", fail)
    with pytest.raises(image_files.ImageError, match="Permission denied"):
        video_files.load_evenly(tmp_path, 2)
