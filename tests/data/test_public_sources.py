"""Public benchmarks are opened by their names in the settings, and all readers of sources know them."""

import dataclasses

import pytest
from PIL import Image
from refcoco_folders import photo_name, write_release
from referred_folders import write_mevis

from configs import default
from dtr1_jax import config
from dtr1_jax.data import outlines, picture_places, public_sources, sources
from dtr1_jax.data.mixture import Mixture
from dtr1_jax.data.readers.benchmark import Benchmark
from dtr1_jax.types import TASKS, Example

DATA = config.from_configdict(default.get_config()).data


@pytest.mark.parametrize("name", public_sources.SERVED)
def test_each_name_is_a_setting_and_says_what_it_expects(name, tmp_path):
    task = public_sources.SERVED[name][0]
    data = dataclasses.replace(DATA, source=name, root=str(tmp_path / "none"), task=task)
    values = default.get_config()
    named = "ref_coco/refcoco_unc" if name == "tfds" else ""
    data = dataclasses.replace(data, name=named)
    values.update_from_flattened_dict(
        {"data.source": name, "data.root": data.root, "data.task": task, "data.name": named}
    )
    assert config.from_configdict(values).data.source == name
    with pytest.raises(sources.DataError, match=r"none.*expected .*got no"):
        sources.open_source(data, "heldout")
    with pytest.raises(sources.DataError, match=f"for which source '{name.replace('+', '.')}' has targets"):
        other = next(task for task in TASKS if task not in public_sources.SERVED[name])
        sources.open_source(dataclasses.replace(data, task=other), "heldout")
    assert sources.max_frames(data) == (8 if name in public_sources.VIDEOS else 1)
    assert sources.max_frames(dataclasses.replace(data, frames=3)) == (3 if name in public_sources.VIDEOS else 1)


@pytest.fixture
def data(tmp_path):
    return dataclasses.replace(DATA, source="refcoco", root=str(write_release(tmp_path)), max_objects=1)


def test_sources_know_a_benchmark(data, tmp_path):
    source = sources.open_source(data, "val")
    assert isinstance(source, Benchmark) and len(source) == 3 and source.max_objects == 1
    assert isinstance(source[0], Example) and len(source[0].scene) == 1
    with pytest.raises(IndexError):
        source[3]
    photo = tmp_path / "images/mscoco/images/train2014" / photo_name(9)
    assert outlines.task_counts(source) == {"segmentation": 3} and outlines.picture_files(source) == [photo]
    assert picture_places.place(source, 2, source[2]) == {"image": [photo]}


def test_both_tasks_in_turns(data):
    source = sources.open_source(
        dataclasses.replace(data, task="unified", mix={"segmentation": 1, "grounding": 1}), "val"
    )
    assert isinstance(source, Mixture) and [source[i].task for i in range(2)] == ["segmentation", "grounding"]


def test_photos_are_shrunk_while_they_are_decoded_and_masks_are_not(data):
    source = sources.shrunk(sources.open_source(data, "val"), 300)
    assert source[0].image.shape[0] < 30 and source[0].target.mask.shape == (30, 40)


def test_broken_pictures_cost_their_example(data, tmp_path):
    photo = tmp_path / "images/mscoco/images/train2014" / photo_name(9)
    photo.write_bytes(b"")
    with pytest.raises(sources.DataError.__mro__[1], match="the file is empty"):
        sources.open_source(data, "val")[0]
    Image.new("RGB", (40, 30)).save(photo)
    assert sources.open_source(data, "val")[0].image.shape == (30, 40, 3)


def test_sources_know_a_benchmark_about_videos(tmp_path):
    data = dataclasses.replace(DATA, source="mevis", root=str(write_mevis(tmp_path)), frames=2)
    source = sources.open_source(data, "heldout")
    folder = tmp_path / "valid_u/JPEGImages/a"
    assert outlines.task_counts(source) == {"segmentation (video)": 3}
    assert outlines.picture_files(source) == [folder / f"{t:05d}.jpg" for t in range(6)]
    assert picture_places.place(source, 1, source[1]) == {"video": folder, "frames": [0, 5]}
    assert source.frames == 2 and "frames=2" in repr(source)
    assert sources.open_source(dataclasses.replace(data, frames=0), "valid_u").frames == 8
