"""What the documents say is so: files, settings, flags, figures and examples."""

import ast
import json
import re
import shlex
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
import scripts
from PIL import Image

from configs import seg
from dtr1_jax import config, types
from dtr1_jax.data.readers import jsonl
from dtr1_jax.evaluation import predict
from dtr1_jax.models import policy, spec
from dtr1_jax.rewards import columns, structure
from dtr1_jax.twin import transcript
from dtr1_jax.twin.coordinates import Canvas, Frame

ROOT = Path(__file__).parents[1]
CARD = "dtr1_jax/assets/tiny/README.md"
PAGES = ("README.md", CARD, "experiments/cold_start/README.md")
SCRIPTS = ("experiments/tpu_pod.sh", "experiments/slurm.sh")
NOTEBOOK = "experiments/colab.ipynb"
DOCUMENTS = (*PAGES, *SCRIPTS, NOTEBOOK)


def cells(kind: str) -> list[str]:
    notebook = json.loads((ROOT / NOTEBOOK).read_text("utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def read(name: str) -> str:
    """A document as text; of the notebook, all cells."""
    if name == NOTEBOOK:
        return "\n".join(cells("markdown") + cells("code"))
    return (ROOT / name).read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of the README in a language ("" = none named)."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", read("README.md"), re.MULTILINE | re.DOTALL)
    return [body for name, body in fenced if name == language]


def commands(name: str, program: str) -> list[list[str]]:
    """The words after `program` of each command line that runs it."""
    lines = read(name).replace("\\\n", " ").replace("`", "\n").splitlines()
    found = [
        line.split(program, 1)[1] for line in lines if f"python {program} " in line or f'python" {program} ' in line
    ]
    # a command inside a quoted string of a script has the closing quote of that string left over
    return [shlex.split(rest if rest.count('"') % 2 == 0 else rest.rstrip('"'), comments=True) for rest in found]


def defined_flags() -> dict[str, list[str]]:
    """name -> values (of an enum, else empty) of the flags of main.py."""
    calls = [node for node in ast.walk(ast.parse((ROOT / "main.py").read_text("utf-8"))) if isinstance(node, ast.Call)]
    calls = [c for c in calls if getattr(c.func, "attr", "").startswith("DEFINE_")]
    return {
        c.args[0].value: ast.literal_eval(c.args[2]) if c.func.attr == "DEFINE_enum" else []
        for c in calls
    }  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_exist(name):
    links = [x for x in re.findall(r"\]\(([^)#]+)\)", read(name)) if "://" not in x]
    missing = [x for x in links if not (ROOT / name).parent.joinpath(x).exists()]
    named = re.findall(r"(?<![\w/.])((?:experiments|dtr1_jax|configs|docs|tests|requirements)/[\w./]+\w)", read(name))
    missing += [x for x in named if not (ROOT / x).exists()]
    assert not missing


@pytest.mark.parametrize("name", DOCUMENTS)
def test_settings_exist(name):
    known = seg.get_config()
    groups = "|".join(key for key, value in known.items() if hasattr(value, "keys"))
    ends = r"(?:py|json|jsonl|sh|md|html|ipynb|safetensors|png)\b"
    unknown = []
    for path in re.findall(
        rf"(?:(?<=[`.\s=])|^)((?:{groups})\.(?!{ends})[a-z]\w*(?:\.[a-z]\w*)*)(?!.*unknown setting)", read(name)
    ):
        at = known
        for key in path.split("."):
            at = at.get(key) if hasattr(at, "keys") else None
        if at is None:
            unknown.append(path)
    assert not unknown


def test_the_search_for_settings_finds_them():
    documents = {name: read(name) for name in DOCUMENTS}
    assert "config.rollout.group" in documents["README.md"] and "config.train.steps" in documents[NOTEBOOK]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_of_main_are_understood(name):
    flags, found = defined_flags(), commands(name, "main.py")
    assert found or name.endswith("README.md")
    for words in found:
        values = seg.get_config()
        for word in words:
            if word in ("$@", "$@;") or not word.startswith("--"):
                continue
            flag, _, value = word[2:].partition("=")
            assert flag.split(".")[0] in flags, f"{name}: main.py has no flag --{flag}"
            if flags[flag.split(".")[0]]:
                assert value in flags[flag], f"{name}: {word}"
            if flag == "config":
                file = value.partition(":")[0]
                assert (ROOT / file).is_file(), f"{name}: no {file}"
            elif flag.startswith("config.") and "$" not in value:
                group, key = flag.removeprefix("config.").rsplit(".", 1)
                at = values
                for part in group.split("."):
                    at = at[part]
                at[key] = type(at[key])(ast.literal_eval(value) if isinstance(at[key], (int, float)) else value)
        config.from_configdict(values)


@pytest.mark.parametrize("name", PAGES)
def test_commands_of_scripts_are_understood(name):
    for script in sorted(set(re.findall(r"python (experiments/[\w/]+\.py)", read(name)))):
        source = (ROOT / script).read_text("utf-8")
        for words in commands(name, script):
            flags = [word.partition("=")[0] for word in words if word.startswith("--")]
            assert all(f'"{flag}"' in source for flag in flags), f"{name}: {script} {words}"


def test_make_targets_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    named = re.findall(r"(?:^|`)make (\w+)", read("README.md"), re.MULTILINE)
    assert named and set(named) <= set(targets)


def test_extras_exist():
    extras = re.search(r"extras_require=(\{.*?\n    \})", (ROOT / "setup.py").read_text("utf-8"), re.DOTALL)[1]
    named = {x for name in DOCUMENTS for x in re.findall(r"\.\[(\w+)\]|\"\[(\w+)\]\"", read(name)) for x in x if x}
    assert named and all(f'"{name}":' in extras for name in named)


def test_quoted_error_is_what_is_said():
    values = seg.get_config().unlock()
    values.data.source, values.grpo.varient = "cocoo", "dapo"
    with pytest.raises(config.ConfigError) as error:
        config.from_configdict(values)
    assert f"error: {error.value}\n" in blocks("")


def test_example_of_json_lines(tmp_path):
    (body,) = blocks("json")
    (tmp_path / "mine.jsonl").write_text(body)
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    picture = np.full((240, 320, 3), 128, np.uint8)
    for i in (1, 2):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{i}.jpg")
    Image.fromarray(np.eye(240, 320, dtype=np.uint8)).save(tmp_path / "masks" / "2.png")
    train, heldout = (
        list(jsonl.open_jsonl_source(str(tmp_path / "mine.jsonl"), split, "segmentation", max_objects=7))
        for split in ("train", "heldout")
    )
    assert {form for form in jsonl.FORMS if f'"{form}": ' in body} == set(jsonl.FORMS)
    *train, asked, chosen = train
    assert asked.task == chosen.task == "vqa" and asked.target.references == ("2", "two")
    assert chosen.query.endswith("? (A) a lamp (B) a cup") and chosen.target.choices == ("a lamp", "a cup")
    assert [len(e.target.boxes) for e in train] == [1, 1, 1, 1] and all(e.target.mask.any() for e in train)
    assert train[0].answer_ids == (1,) and [o.label for o in train[0].scene] == ["thermos", "spoon"]
    assert train[2].target.mask[:, 160:200].all() and train[2].target.mask.sum() == 40 * 240
    assert [len(e.target.boxes) for e in heldout] == [0] and not heldout[0].target.mask.any()


def test_example_of_a_transcript():
    (body,) = [body for body in blocks("") if body.startswith("<twin>")]
    size = tuple(json.loads(re.search(r"<twin>(.*)</twin>", body, re.DOTALL)[1])["size"])
    parsed = transcript.parse(body, task="segmentation", canvas=Canvas(Frame.PIXEL, size))
    assert parsed.sound and parsed.answer.objects == (2,) and len(parsed.twin.objects) == 5
    assert parsed.twin.objects[1].attributes[0] == "orange"


def test_reward_table():
    rows = re.findall(r"^\| `(\w+)` ((?:\| [\d.]* ?){4})\|", read("README.md"), re.MULTILINE)
    shown = {task: {} for task in types.TASKS}
    for name, cells in rows:
        for task, weight in zip(types.TASKS, cells.split("|")[1:]):
            shown[task] |= {name: float(weight)} if weight.strip() else {}
    assert shown == seg.get_config().reward.weights.to_dict()
    assert [name for name, _ in rows] == list(columns.COLUMNS)
    assert f"else {structure.CAP} x (stages passed) / 5" in read("README.md")


def test_numbers_of_parameters():
    shapes = jax.eval_shape(lambda: policy.init(jax.random.key(0), spec.TINY))
    count = {name: sum(x.size for x in jax.tree.leaves(part)) for name, part in shapes.items()}
    card = read(CARD)
    assert f"{sum(count.values()):,} parameters" in card
    assert all(f" {count[name]:,}" in card for name in ("decoder", "embed", "vision", "norm"))
    assert f"{sum(count.values()) / 1e6:.1f} M parameters" in read("README.md")


def test_notebook_is_sound_and_cleared():
    notebook = json.loads((ROOT / NOTEBOOK).read_text("utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5) and isinstance(notebook["metadata"], dict)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", x) for x in ids)
    for cell in notebook["cells"]:
        fields = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            fields |= {"outputs", "execution_count"}
        assert set(cell) == fields and all(isinstance(line, str) for line in cell["source"])


@pytest.mark.parametrize("number", range(len(cells("code"))))
def test_notebook_cells_compile(number):
    source = cells("code")[number].replace("\\\n", " ")
    compile(re.sub(r"^(\s*)[!%].*$", r"\1pass", source, flags=re.MULTILINE), f"cell {number}", "exec")


@pytest.mark.parametrize("name", SCRIPTS)
def test_shell_scripts_parse(name):
    done = subprocess.run(["bash", "-n", ROOT / name], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", DOCUMENTS)
def test_generated_queries_are_no_public_benchmark(name):
    assert not re.search("ReasonSeg|RefCOCO|RVTBench", read(name), re.IGNORECASE)


def test_picture_of_a_gallery(tmp_path):
    picture = scripts.load_script("experiments/picture.py")
    predict.write(tmp_path, [picture.oracle(44), picture.oracle(4)], 1)
    words, panels = picture.gallery(tmp_path, 0)
    assert words.startswith("Query: please point at the orange object") and "rain: umbrella 5." in words
    assert set(panels) == set(picture.PANELS) and not np.array_equal(panels["image"], panels["answer"])
    assert picture.sheet([(words, panels)] * 2, picture.ORACLE).height > 2 * 280
    with pytest.raises(SystemExit, match="no row 1 with pictures"):
        picture.gallery(tmp_path, 1)


def test_every_figure_is_filled_in():
    assert not [name for name in DOCUMENTS if "{{" in read(name)]
