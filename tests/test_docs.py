"""What the pages say is so: files, settings, flags, commands, figures and examples."""

import ast
import functools
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
import scripts
import test_architecture
from ml_collections import ConfigDict
from PIL import Image

from configs import seg
from dtr1_jax import config, types
from dtr1_jax.data.readers import jsonl
from dtr1_jax.evaluation import answered, predictions_file
from dtr1_jax.models import policy, published_sizes, spec
from dtr1_jax.rewards import columns, structure
from dtr1_jax.twin import transcript
from dtr1_jax.twin.coordinates import Canvas, Frame

ROOT = Path(__file__).parents[1]
CARD = "dtr1_jax/assets/tiny/README.md"
SITE = tuple(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md")))
EXPERIMENTS = ("experiments/README.md", "experiments/cold_start/README.md", "experiments/smollm2/README.md")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", *SITE, CARD, *EXPERIMENTS)
SCRIPTS = tuple(f"experiments/{name}.sh" for name in ("tpu_pod", "xpk", "jobset", "slurm"))
NOTEBOOK = "experiments/colab.ipynb"
DOCUMENTS = (*PAGES, *SCRIPTS, NOTEBOOK)
# The pages of the site that the README and the first page must link to, and that the tests below read.
ABOUT_BENCHMARKS = ("docs/benchmarks.md", "docs/quirks.md", "CHANGELOG.md")
CONCEPTS, DATA, START = "docs/concepts.md", "docs/data.md", "docs/start.md"

PROGRAMS = ("main.py", "-m dtr1_jax")
OF_RUN = ("eval", "infer", "export")  # modes that take the settings of --workdir where --config is missing
LANGUAGES = {"bash", "json", "bibtex", "", "{toctree}", "python"}
OTHER_PROGRAMS = (".", "pre-commit")  # commands that the tests below do not know


def cells(kind: str) -> list[str]:
    """The cells of the notebook of one kind."""
    notebook = json.loads((ROOT / NOTEBOOK).read_text("utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def read(name: str) -> str:
    """A document as text; for the notebook, all cells."""
    if name == NOTEBOOK:
        return "\n".join(cells("markdown") + cells("code"))
    return (ROOT / name).read_text("utf-8")


def fences(name: str) -> list[tuple[str, str]]:
    """(language, body) of the fenced blocks of a page; the language is "" where none is named."""
    return re.findall(r"^```(\S*)\n(.*?)^```", read(name), re.MULTILINE | re.DOTALL)


def blocks(name: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return [body for known, body in fences(name) if known == language]


def command_lines(name: str) -> list[list[str]]:
    """The words of each command in the bash blocks of a page, without comments and variables set in front."""
    out = []
    for body in blocks(name, "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                    words = words[1:]
                out += [words] if words else []
    return out


def arguments(name: str, *programs: str) -> list[list[str]]:
    """The words after `python PROGRAM` on each line of a document that runs one of the programs, also inside text."""
    out = []
    for line in read(name).replace("\\\n", " ").replace("`", "\n").splitlines():
        for program in programs:
            if f"python {program} " in line or f'python" {program} ' in line:
                rest = line.split(program, 1)[1]
                # A command inside a quoted string of a script has the closing quote of that string left over.
                out.append(shlex.split(rest if rest.count('"') % 2 == 0 else rest.rstrip('"'), comments=True))
    return out


@functools.cache
def defined_flags() -> dict[str, list[str]]:
    """name -> values (for an enum, else empty) of the flags of the main program, as its --helpxml lists them."""
    command = [sys.executable, "main.py", "--helpxml"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    return {
        flag.findtext("name"): [value.text for value in flag.findall("enum_value")]
        for flag in ElementTree.fromstring(listing).iter("flag")
        if not flag.findtext("file").startswith("absl")
    }


def settings_of(name: str, place: str) -> ConfigDict:
    """The settings that `--config=FILE[:POLICY]` names, before any change. Fails where file or policy do not exist."""
    file, _, policy_name = place.partition(":")
    assert (ROOT / file).is_file(), f"{name}: no {file}"
    assert policy_name in ("", "tiny", "auto", *published_sizes.CONFIGS), f"{name}: no policy {policy_name}"
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    return module.get_config(policy_name or "tiny")


def check_command(name: str, words: list[str]) -> None:
    """Fails where the flags and settings of a command of the main program do not exist or do not fit together."""
    flags = defined_flags()
    given = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
    for flag, value in given.items():
        assert flag.split(".")[0] in flags, f"{name}: the program has no flag --{flag}"
        assert value in (flags[flag.split(".")[0]] or [value]), f"{name}: --{flag}={value}"
    mode = given.get("mode", "train")
    without = mode in ("rescore", "fetch", "convert") or (mode in OF_RUN and "workdir" in given)
    assert "config" in given or without, f"{name}: {words}"
    settings = settings_of(name, given.get("config", "configs/seg.py"))
    for flag, value in given.items():
        if flag.startswith("config.") and "$" not in value:
            *groups, key = flag.removeprefix("config.").split(".")
            group = settings
            for part in groups:
                group = group[part]
            group[key] = type(group[key])(ast.literal_eval(value) if isinstance(group[key], (int, float)) else value)
    config.from_configdict(settings)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_exist(name):
    links = [x for x in re.findall(r"\]\(([^)#]+)\)", read(name)) if "://" not in x]
    missing = [x for x in links if not (ROOT / name).parent.joinpath(x).exists()]
    named = re.findall(r"(?<![\w/.])((?:experiments|dtr1_jax|configs|docs|tests|requirements)/[\w./]+\w)", read(name))
    missing += [x for x in named if not (ROOT / x).exists() and not x.startswith("docs/_build")]
    assert not missing


@pytest.mark.parametrize("name", DOCUMENTS)
def test_settings_exist(name):
    known = seg.get_config()
    groups = "|".join(key for key, value in known.items() if hasattr(value, "keys"))
    ends = r"(?:py|json|yaml|jsonl|sh|md|html|ipynb|safetensors|png)\b"
    unknown = []
    for path in re.findall(
        rf"(?:(?<=[`.\s=])|^)((?:{groups})\.(?!{ends})[a-z]\w*(?:\.[a-z]\w*)*)(?!.*unknown setting)", read(name)
    ):
        at = known
        for key in path.split("."):
            at = at.get(key) if hasattr(at, "keys") else None
        room = ROOT / "dtr1_jax" / path.replace(".", "/")  # `data.queries` is no setting but a folder
        if path == "specialists.load":  # a function of the package of that name
            continue
        if at is None and not (room.is_dir() or room.with_suffix(".py").is_file()):
            unknown.append(path)
    assert not unknown


def test_the_search_for_settings_finds_them():
    documents = {name: read(name) for name in DOCUMENTS}
    assert "config.reward.weights.vqa.answer" in documents[CONCEPTS] and "config.train.steps" in documents[NOTEBOOK]


def test_blocks_name_a_known_language():
    for name in PAGES:
        assert {language for language, _ in fences(name)} <= LANGUAGES, name
        assert read(name).count("\n```") == 2 * len(fences(name)), f"{name}: a fence is not closed"


def test_flags_of_the_main_program_are_found():
    flags = defined_flags()
    assert {"config", "workdir", "image"} <= set(flags) and "helpxml" not in flags and "eval" in flags["mode"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_of_main_are_understood(name):
    commands = arguments(name, *PROGRAMS)
    assert commands or name not in (*SCRIPTS, NOTEBOOK, "README.md", START)
    for words in commands:
        check_command(name, [word for word in words if word not in ("$@", "$@;")])


@pytest.mark.parametrize("name", SITE)
def test_flags_in_text_exist(name):
    flags = defined_flags()
    for flag in re.findall(r"`--([a-z_]+)[=.`\s]", read(name)):
        assert flag in flags, f"{name}: the program has no flag --{flag}"


@pytest.mark.parametrize("name", PAGES)
def test_commands_of_scripts_are_understood(name):
    for script in sorted(set(re.findall(r"python (experiments/[\w/]+\.py)", read(name)))):
        source = (ROOT / script).read_text("utf-8")
        # Scripts of one folder share their arguments: those of the neighbours that a script imports are its own.
        neighbours = {path.stem: path for path in (ROOT / script).parent.glob("*.py")}
        imported = set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)) & set(neighbours)
        source += "".join(neighbours[module].read_text("utf-8") for module in sorted(imported))
        for words in arguments(name, script):
            flags = [word.partition("=")[0] for word in words if word.startswith("--")]
            # A flag stands in the source whole, or is made from its name in a loop.
            unknown = [
                flag for flag in flags
                if f'"{flag}"' not in source and not (f'"{flag[2:]}"' in source and 'f"--{name}"' in source)
            ]  # fmt: skip
            assert not unknown, f"{name}: {script} {unknown}"


@pytest.mark.parametrize("name", PAGES)
def test_programs_are_known(name):
    """Every line of a bash block is a command that one of these tests reads, with files that exist."""
    for words in command_lines(name):
        program, rest = words[0], words[1:]
        if program in ("python", "python3"):
            assert rest[0] in ("main.py", "-m") or (ROOT / rest[0]).is_file(), f"{name}: {words}"
            if rest[0] == "-m":
                assert rest[1] in ("dtr1_jax", "pytest", "venv", "ruff", "sphinx"), f"{name}: {words}"
            if rest[:2] == ["-m", "pytest"]:
                missing = [word for word in rest[2:] if "/" in word and not (ROOT / word).exists()]
                assert not missing, f"{name}: {missing}"
        elif program == "pip":
            files = [word for word in rest if word.endswith(".txt")]
            assert rest[0] == "install" and all((ROOT / file).is_file() for file in files), f"{name}: {words}"
        elif program == "bash":
            assert (ROOT / rest[0]).is_file(), f"{name}: {words}"
        elif program == "make":
            check_make(name, rest)
        else:
            assert program in OTHER_PROGRAMS, f"{name}: {words}"


def check_make(name: str, words: list[str]) -> None:
    """Fails where a call of make names a target or variable that the Makefile has not."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for word in words:
        variable = word.partition("=")[0]
        pattern = rf"^{variable} \?=" if "=" in word else rf"^{word}:"
        assert re.search(pattern, makefile, re.MULTILINE), f"{name}: make {word}"


@pytest.mark.parametrize("name", PAGES)
def test_make_targets_exist(name):
    targets = re.findall(r"`make (\w[^`]*)`", read(name))
    assert targets or name != "README.md"  # Otherwise the search would have stopped finding any.
    for words in targets:
        check_make(name, shlex.split(words))


def test_extras_exist():
    extras = re.search(r"extras_require=(\{.*?\n    \})", (ROOT / "setup.py").read_text("utf-8"), re.DOTALL)[1]
    named = {x for name in DOCUMENTS for x in re.findall(r"\.\[(\w+)\]|\"\[(\w+)\]\"", read(name)) for x in x if x}
    assert named and all(f'"{name}":' in extras for name in named)


def test_the_readme_is_short():
    assert len(read("README.md").splitlines()) <= 150 and (ROOT / "README.md").stat().st_size <= 9_000


def test_every_page_is_reached():
    index = read("docs/index.md")
    listed = [f"docs/{line}.md" for body in blocks("docs/index.md", "{toctree}") for line in body.split()]
    assert {name for name in SITE if name != "docs/index.md"} <= set(listed), index
    assert all(f"({name})" in read("README.md") for name in SITE if name != "docs/index.md")


def test_rooms_are_those_that_exist():
    rows = re.findall(r"^\| `dtr1_jax/(\w+)(?:\.py|/)` \|", read("CONTRIBUTING.md"), re.MULTILINE)
    files = [p for p in (ROOT / "dtr1_jax").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()]
    assert sorted(rows) == sorted(p.stem for p in files if not p.name.startswith("__"))


def test_order_of_the_rooms_is_that_of_the_architecture_test():
    order = next(body for body in blocks("CONTRIBUTING.md", "") if body.startswith("types "))
    assert tuple(tuple(line.split()) for line in order.splitlines()) == test_architecture.LAYERS


def test_places_of_registration_exist():
    """`NAME` in `FILE`, for every such pair of CONTRIBUTING."""
    pairs = re.findall(
        r"(?:`(\w+)` and )?`([\w.]+)`\s+in\s+`((?:dtr1_jax|configs)/[\w/]+\.py)`", read("CONTRIBUTING.md")
    )
    assert len(pairs) >= 5
    for *names, file in pairs:
        for name in filter(None, names):
            source = (ROOT / file).read_text("utf-8")
            group, _, field = name.rpartition(".")
            assert re.search(rf"^(?:def |class )?{group or field}\b", source, re.MULTILINE), f"{name} in {file}"
            assert not group or re.search(rf"^class {group}:\n(?:    .*\n)*?    {field}: ", source, re.MULTILINE), name


@pytest.mark.parametrize("name", PAGES)
def test_no_line_numbers_of_code(name):
    assert not re.search(r"\.(?:py|toml|txt|md):\d", read(name))


@pytest.mark.parametrize("name", SITE)
def test_anchors_exist(name):
    """Links to a heading, in this page or another page of the site."""
    for page, anchor in re.findall(r"\]\(([\w/.]*)#([^)\s]+)\)", read(name)):
        headings = re.findall(r"^#+ (.*)$", read(f"docs/{page}" if page else name), re.MULTILINE)
        anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert anchor in anchors, f"{name}: {page}#{anchor}"


def test_versions_agree():
    import dtr1_jax

    assert f'version="{dtr1_jax.__version__}"' in (ROOT / "setup.py").read_text("utf-8")
    assert f"version: {dtr1_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^## \[(\d[\d.]*)\]", read("CHANGELOG.md"), re.MULTILINE)[1] == dtr1_jax.__version__


def test_quoted_error_is_what_is_said():
    values = seg.get_config().unlock()
    values.data.source, values.grpo.varient = "cocoo", "dapo"
    with pytest.raises(config.ConfigError) as error:
        config.from_configdict(values)
    assert f"error: {error.value}\n" in blocks(START, "")


@pytest.fixture
def mine(tmp_path):
    """A function that writes JSON lines beside the pictures and videos that the pages name, and reads one split."""
    picture = np.full((240, 320, 3), 128, np.uint8)
    for file in ("photos/1.jpg", "photos/2.jpg", *(f"videos/{k}/{i}.png" for k in (1, 2) for i in range(4))):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / file)
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.eye(240, 320, dtype=np.uint8)).save(tmp_path / "masks" / "2.png")

    def examples(lines: str, split: str) -> list[types.Example]:
        (tmp_path / "mine.jsonl").write_text(lines)
        return list(jsonl.open_jsonl_source(str(tmp_path / "mine.jsonl"), split, "segmentation", max_objects=7))

    return examples


@pytest.mark.parametrize(("name", "number"), [(name, i) for name in PAGES for i in range(len(blocks(name, "json")))])
def test_json_lines_are_read(mine, name, number):
    body = blocks(name, "json")[number]
    parts = [{example.uid for example in mine(body, split)} for split in ("train", "heldout")]
    assert all(parts) and len(parts[0]) + len(parts[1]) == len(parts[0] | parts[1]) == body.count("\n")


def test_example_of_json_lines(mine):
    body = blocks(DATA, "json")[0]
    second, first = mine(body, "train"), mine(body, "heldout")  # the lines about photos 2 and 1
    assert {form for form in jsonl.FORMS if f'"{form}": ' in body} == set(jsonl.FORMS)
    *second, asked, chosen = second
    assert asked.task == chosen.task == "vqa" and asked.target.references == ("2", "two")
    assert chosen.query.endswith("? (A) a lamp (B) a cup") and chosen.target.choices == ("a lamp", "a cup")
    assert [len(e.target.boxes) for e in first] == [1, 1, 1] and all(e.target.mask.any() for e in first)
    assert first[0].answer_ids == (1,) and [o.label for o in first[0].scene] == ["thermos", "spoon"]
    assert first[2].target.mask[:, 160:200].all() and first[2].target.mask.sum() == 40 * 240
    assert [len(e.target.boxes) for e in second] == [1, 0] and not second[1].target.mask.any()


def test_example_of_a_transcript():
    (body,) = [body for body in blocks(CONCEPTS, "") if body.startswith("<twin>")]
    size = tuple(json.loads(re.search(r"<twin>(.*)</twin>", body, re.DOTALL)[1])["size"])
    parsed = transcript.parse(body, task="segmentation", canvas=Canvas(Frame.PIXEL, size))
    assert parsed.sound and parsed.answer.objects == (2,) and len(parsed.twin.objects) == 5
    assert parsed.twin.objects[1].attributes[0] == "orange"


def test_reward_table():
    rows = re.findall(r"^\| `(\w+)` ((?:\| [\d.]* ?){4})\|", read(CONCEPTS), re.MULTILINE)
    shown = {task: {} for task in types.TASKS}
    for name, cells in rows:
        for task, weight in zip(types.TASKS, cells.split("|")[1:]):
            shown[task] |= {name: float(weight)} if weight.strip() else {}
    assert shown == seg.get_config().reward.weights.to_dict()
    assert [name for name, _ in rows] == list(columns.COLUMNS)
    assert f"else {structure.CAP} x (stages passed) / 5" in read(CONCEPTS)


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


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name not in ABOUT_BENCHMARKS])
def test_generated_queries_are_no_public_benchmark(name):
    assert not re.search("ReasonSeg|RefCOCO|RVTBench", read(name))  # in lower case they are names of sources


def test_picture_of_a_gallery(tmp_path):
    picture = scripts.load_script("experiments/picture.py")
    queries = [answered.of_prediction(picture.oracle(n), n == 44) for n in (44, 4)]
    predictions_file.write_predictions(tmp_path, queries)
    words, panels = picture.gallery(tmp_path, 0)
    assert words.startswith("Query: please point at the orange object") and "rain: umbrella 5." in words
    assert set(panels) == set(picture.PANELS) and not np.array_equal(panels["image"], panels["answer"])
    assert picture.sheet([(words, panels)] * 2, picture.ORACLE).height > 2 * 280
    with pytest.raises(SystemExit, match="no row 1 with pictures"):
        picture.gallery(tmp_path, 1)


def test_every_figure_is_filled_in():
    assert not [name for name in DOCUMENTS if "{{" in read(name)]


def test_hooks_take_the_locked_ruff():
    version = re.search(r"^ruff==(.+)$", (ROOT / "requirements/test.txt").read_text("utf-8"), re.MULTILINE)[1]
    assert f"rev: v{version}\n" in (ROOT / ".pre-commit-config.yaml").read_text("utf-8")


def test_workflow_runs_the_checks_on_supported_versions():
    workflow = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    assert "bash .ci/run" in workflow and 'python: ["3.11", "3.13"]' in workflow
    assert 'python_requires=">=3.11,<3.14"' in (ROOT / "setup.py").read_text("utf-8")


def test_lock_files_name_no_package_twice():
    for name in ("test", "docs", "parity"):
        text = "".join((ROOT / f"requirements/{part}.txt").read_text("utf-8") for part in ("demo", name))
        names = re.findall(r"^([\w.-]+)==", text, re.MULTILINE)
        assert len({n.lower().replace("_", "-") for n in names}) == len(names), name
