"""The Colab notebook runs from its first to its last cell, in a Jupyter kernel of its own, as Colab runs it.

The cell that clones and installs is replaced by one that enters the repository, `google.colab` by a stand-in, and the
settings of the training are small. All other cells are run as they are.
"""

import json
import pathlib
import sys

import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    "--config.train.steps=1 --config.train.eval_examples=2 --config.train.eval_batch=2 --config.rollout.queries=2 "
    "--config.rollout.group=2 --config.grpo.micro_queries=0 --config.grpo.micro_group=0 --config.reward.segmenter=box"
)
COLAB = '''"""What the notebook uses of google.colab.files."""

import pathlib
import shutil


def download(path):
    shutil.copy(path, "downloaded.html")


def upload():
    data = pathlib.Path("{photo}").read_bytes()
    pathlib.Path("photo of mine.png").write_bytes(data)
    return {{"photo of mine.png": data}}
'''


@pytest.mark.slow
def test_all_cells_run(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    (tmp_path / "google" / "colab").mkdir(parents=True)
    (tmp_path / "google" / "colab" / "__init__.py").write_text("")
    (tmp_path / "google" / "colab" / "files.py").write_text(COLAB.format(photo=tmp_path / "red.png"))
    place = tmp_path / "checkout"
    place.mkdir()
    for name in ("main.py", "dtr1_jax", "configs"):
        (place / name).symlink_to(ROOT / name)
    monkeypatch.setenv("DTR1_COLAB_SETTINGS", SMALL)
    monkeypatch.setenv("XLA_FLAGS", "")  # one device, as in Colab; the other tests have eight
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{place}", prepend=":")
    monkeypatch.setenv("PATH", str(pathlib.Path(sys.executable).parent), prepend=":")  # `!python` is this Python

    notebook = nbformat.read(ROOT / "experiments" / "colab.ipynb", as_version=4)
    code = {cell["id"]: cell for cell in notebook.cells if cell.cell_type == "code"}
    assert list(code) == ["install", "train", "figures", "gallery", "report", "infer", "answer"]
    assert "git clone" in code["install"].source and "pip install" in code["install"].source
    code["install"].source = f"import pathlib\nFOLDER = pathlib.Path({str(place)!r})\n%cd $FOLDER"
    try:
        nbclient.NotebookClient(notebook, timeout=3600, kernel_name="python3").execute(cwd=str(tmp_path))
    except nbclient.exceptions.CellExecutionError as error:
        said = [str(output.get("text", "")) for cell in code.values() for output in cell.outputs]
        pytest.fail(f"{error}\nthe cells before it said:\n" + "\n".join(said))

    said = {name: json.dumps([dict(output) for output in cell.outputs]) for name, cell in code.items()}
    assert "report: runs/colab/report.html" in said["train"]
    assert said["figures"].count("held-out gIoU") == 2 and "step 1: reward" in said["figures"]
    assert said["gallery"].count('"image/png"') == 2  # a strip of pictures for each held-out query
    assert (place / "downloaded.html").read_bytes() == (place / "runs/colab/report.html").read_bytes()
    assert "answer: runs/colab/infer/photo of mine" in said["infer"]
    assert "the thing that holds wine" in said["answer"] and said["answer"].count('"image/png"') == 2
