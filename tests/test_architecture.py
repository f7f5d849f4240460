"""The house rules that a machine can check: who may import whom, file size, docstrings, no traces of one machine."""

import ast
import graphlib
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# A room is a module or folder below dtr1_jax/, with dots where it lies in another; a module belongs to the longest name
# that fits. A room may import itself and the rooms of the lines before its own.
LAYERS = (
    ("types", "checked_fields", "config_groups", "outside", "plain_text", "places"),
    (
        "config",
        "device_order",
        "mesh",
        "layout",
        "draw",
        "camera_motion",
        "run",
        "run.atomic",
        "run.worker_pool",
        "evaluation.benchmarks",
    ),
    ("twin",),
    ("data", "data.queries", "models", "specialists"),
    ("rewards", "rl"),
    ("policies",),
    ("asking",),
    ("evaluation",),
    ("report",),
    ("modes",),
    ("settings_of_run",),
    ("__main__",),
)
# What a room may import of its own layer.
ALSO = {
    "config_groups": ("checked_fields", "types"),
    "device_order": ("config",),
    "mesh": ("config", "device_order"),
    "layout": ("mesh",),
    "run": ("run.atomic",),
    "run.worker_pool": ("run.worker_messages",),
    "data": ("data.queries",),
    "specialists": ("models",),
}
# Rooms that may import this alone, whatever lies below them.
ONLY = {
    "data.queries": ("types",),  # the query language knows no data set
    "rewards": (
        "types",
        "outside",
        "places",
        "config",
        "twin",
        "data.queries",
        "run.local_copy",
        "run.worker_pool",
        "evaluation.benchmarks",
    ),
    "rl": ("types", "config", "mesh", "layout", "models.policy", "models.decoder"),
    "run": ("plain_text", "places", "run.atomic"),
}
# Packages of others, and the files (or folders) that may import them. All else is free.
OUTSIDE = {
    "flax": ("dtr1_jax/models/", "dtr1_jax/specialists/"),
    "orbax": ("dtr1_jax/run/checkpoint.py",),
    "grain": ("dtr1_jax/data/",),
    "tensorflow_datasets": ("dtr1_jax/data/",),
    # the --config flag
    "ml_collections": (
        "dtr1_jax/config.py",
        "dtr1_jax/modes/dispatch.py",
        "dtr1_jax/settings_of_run.py",
        "dtr1_jax/__main__.py",
        "configs/",
        "main.py",
    ),
    "absl": ("main.py", "dtr1_jax/__main__.py"),
    "PartitionSpec": ("dtr1_jax/mesh.py",),  # a name, wherever it is taken from
    "jax.P": ("dtr1_jax/mesh.py",),  # the same thing
}
MAX_LINES = 400
MAX_FUNCTION = 60  # lines; a longer function has a comment "long because ..." right above it or in it
# The tests of dtr1_jax/ROOM/NAME.py are in tests/ROOM/test_NAME.py or test_NAME_ASPECT.py, except these modules.
TESTED_IN = {
    "rl/session": "rl/test_rollout.py",
    "data/sandbox_process": "data/test_sandbox.py",
    "__main__": "test_main.py",
    "checked_fields": "test_config.py",
    "config_groups": "test_config.py",
    "specialists/perceived": "specialists/test_perceiver.py",
    "specialists/looks": "specialists/test_perceiver.py",
    "specialists/frame_rows": "specialists/test_perceiver.py",
    "specialists/assembly": "specialists/test_perceiver.py",
    "modes/step_numbers": "modes/test_experience.py",
    "modes/perceive_inputs": "modes/test_perceive.py",
    "twin/label_synonyms": "rewards/test_label_names.py",
    "twin/faults": "twin/test_schema.py",
    "data/first_bytes": "data/readers/test_quirks_coco.py",
    "data/readers/benchmark": "data/readers/test_refcoco.py",
    "data/readers/coco_photos": "data/readers/test_refcoco.py",
    "data/readers/caption_records": "data/readers/test_coco_captions.py",
    "data/readers/worded_videos": "data/readers/test_nextqa.py",
    "data/readers/ref_sentences": "data/readers/test_refcoco.py",
    "data/readers/parquet_rows": "data/readers/test_refcoco_parquet.py",
    "data/readers/jsonl_reading": "data/readers/test_jsonl.py",
    "data/readers/sized_photos": "data/readers/test_coco_annotations.py",
    "data/readers/referred_videos": "data/readers/test_mevis.py",
    "data/readers/coco_pixels": "data/readers/test_coco_annotations.py",
    "data/conversion/samples": "data/conversion/test_answer_rows.py",
    "data/conversion/picture_store": "data/conversion/test_answer_rows.py",
    "data/conversion/row_files": "data/conversion/test_answer_rows.py",
    "data/conversion/line_writer": "data/conversion/test_answer_rows.py",
    "data/conversion/box_texts": "data/conversion/test_chat_rows.py",
    "data/queries/attributes": "data/twinworld/test_picture_examples.py",
    "data/queries/temporal_phrases": "data/queries/test_phrases.py",
    "data/numbered_batches": "data/test_pipeline.py",
    "evaluation/caption_figures": "evaluation/test_benchmark_rows.py",
    "evaluation/answered": "evaluation/test_metrics.py",
    "evaluation/drawings": "evaluation/test_metrics.py",
    "evaluation/predictions_file": "evaluation/test_metrics.py",
    "models/weights/published_files": "models/weights/test_fetched_models.py",
    "models/weights/hub": "policies/test_policy_files.py",
    "models/config_fields": "models/test_spec.py",
    "models/weights/exporting": "modes/test_export.py",
    "policies/state": "modes/test_evaluate.py",
    "policies/runtime": "evaluation/test_predict.py",
    "run/stop_signals": "run/test_hosts.py",
    "settings_of_run": "modes/test_export_run.py",
    "specialists/onnx/session_process": "specialists/onnx/test_onnx_predictor.py",
    "specialists/ssd/coco_classes": "specialists/ssd/test_ssd_predictor.py",
    "specialists/ssd/weights": "specialists/ssd/test_ssd_spec.py",
    "specialists/sam/mask_decoder": "specialists/sam/test_sam_predictor_parity.py",
    "specialists/sam/model": "specialists/sam/test_sam_predictor_parity.py",
    "specialists/sam/object_prompts": "specialists/sam/test_sam_predictor.py",
    "specialists/sam/prompt_encoder": "specialists/sam/test_sam_predictor_parity.py",
    "specialists/sam/square": "specialists/sam/test_sam_predictor.py",
    "specialists/sam/stored_zip": "specialists/sam/test_sam_restricted_pickle.py",
    "specialists/sam/vit_encoder": "specialists/sam/test_sam_predictor_parity.py",
    "specialists/sam/weights": "specialists/sam/test_sam_spec.py",
    "report/stylesheet": "report/test_page.py",
    "specialists/depth_anything/dpt_head": "specialists/depth_anything/test_depth_anything_predictor.py",
    "specialists/depth_anything/model": "specialists/depth_anything/test_depth_anything_predictor.py",
    "specialists/depth_anything/programs_by_shape": "specialists/depth_anything/test_depth_anything_predictor.py",
    "specialists/depth_anything/spec": "specialists/depth_anything/test_depth_anything_predictor.py",
    "specialists/depth_anything/weights": "specialists/depth_anything/test_depth_anything_predictor.py",
    "specialists/depth_anything_3/model": "specialists/depth_anything_3/test_depth_anything_3_predictor.py",
    "specialists/depth_anything_3/da3_preprocessing": "specialists/depth_anything_3/test_depth_anything_3_predictor.py",
    "specialists/depth_anything_3/sky_filling": "specialists/depth_anything_3/test_depth_anything_3_predictor.py",
    "specialists/depth_anything_3/spec": "specialists/depth_anything_3/test_depth_anything_3_predictor.py",
    "specialists/depth_anything_3/weights": "specialists/depth_anything_3/test_depth_anything_3_predictor.py",
    "specialists/dinov2/crop_preprocessing": "specialists/dinov2/test_dinov2_predictor.py",
    "specialists/dinov2/weights": "specialists/dinov2/test_dinov2_spec.py",
    "specialists/pixel_values": "specialists/depth_anything/test_depth_anything_depth_preprocessing.py",
    "specialists/sam2/hiera": "specialists/sam2/test_sam2_model.py",
    "specialists/sam2/sine_positions": "specialists/sam2/test_sam2_model.py",
    "specialists/sam2/prompt_tokens": "specialists/sam2/test_sam2_model.py",
    "specialists/sam2/two_way_decoder": "specialists/sam2/test_sam2_model.py",
    "specialists/sam2/memory_encoder": "specialists/sam2/test_sam2_video_tracker.py",
    "specialists/sam2/memory_attention": "specialists/sam2/test_sam2_video_tracker.py",
    "specialists/sam2/tracking": "specialists/sam2/test_sam2_video_tracker.py",
    "specialists/sam2/picture_prompts": "specialists/sam2/test_sam2_predictor.py",
}
# Test files about several modules at once, or about files outside dtr1_jax/.
WHOLE = {
    "data/readers/test_small_folders", "data/readers/test_quirks_coco", "data/readers/test_quirks_jsonl",
    "data/conversion/test_quirks_rows", "data/conversion/test_quirks_folders", "data/conversion/test_quirks_videos",
    "data/readers/test_quirks_benchmarks", "test_quirks_page",
    "experiments/test_colab", "experiments/test_collectives_script", "experiments/test_data_size",
    "experiments/test_davis_videos", "modes/test_formats",
    "experiments/test_detectors_and_depth", "experiments/test_hacking", "experiments/test_idf",
    "experiments/test_launchers", "experiments/test_plan_table", "experiments/test_query_check",
    "experiments/test_real_weights",
    "experiments/test_smollm2", "experiments/test_speed",
    "experiments/test_utilization", "models/test_parity_generation", "models/test_parity_logits",
    "models/test_parity_prompts", "models/test_parity_scaling", "modes/test_bucket_runs", "modes/test_cells",
    "modes/test_worded_benchmarks",
    "modes/test_process_counts", "modes/test_processes", "modes/test_stop_processes",
    "modes/test_real_data", "test_annotations", "test_architecture", "test_configs", "test_docs", "test_main",
}  # fmt: skip
CODE = ("dtr1_jax/**/*.py", "configs/**/*.py", "experiments/**/*.py", "main.py")
LEFTOVERS = re.compile(r"\b(" + "TO" + r"DO|FIX" + r"ME)\b")  # cut in two, since this file is checked as well
MACHINE_PATHS = re.compile(r"(?<![\w.~:/}-])/(?:opt|work|root|home/\w+|Users/\w+)/")


def imports(path: str, tree: ast.AST) -> list[tuple[int, str]]:
    """(line, dotted name) of all that a file imports, in functions too; `from a import b` is a.b, a relative or not."""
    package = path.removesuffix(".py").split("/")[:-1]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join(base + [node.module] if node.module else base)
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def within(name: str, prefix: str) -> bool:
    """Whether the dotted name is `prefix` or lies below it."""
    return f"{name}.".startswith(f"{prefix}.")


def room_of(module: str) -> str:
    """The room of a dotted module below dtr1_jax, or its first name where LAYERS has no place for it."""
    rooms = [room for layer in LAYERS for room in layer if within(module, room)]
    return max(rooms, key=len, default=module.partition(".")[0])


def may_import(room: str) -> tuple[str, ...]:
    """The rooms (or modules) that a room may import. Raises ValueError for a room that has no place in LAYERS."""
    depth = next((i for i, layer in enumerate(LAYERS) if room in layer), None)
    if depth is None:
        raise ValueError(f"dtr1_jax/{room} has no place in LAYERS of tests/test_architecture.py: give it one")
    below = tuple(name for layer in LAYERS[:depth] for name in layer)
    return (room, *ONLY.get(room, below + ALSO.get(room, ())))


def layer_faults(path: str, source: str) -> list[str]:
    """Imports inside dtr1_jax that go the wrong way."""
    parts = path.removesuffix(".py").split("/")
    if parts[0] != "dtr1_jax":
        return []
    room = "" if parts[1] == "__init__" else room_of(".".join(parts[1:]))
    try:
        allowed = may_import(room) if room else ()
    except ValueError as error:
        return [f"{path}: {error}"]
    faults = []
    for line, name in imports(path, ast.parse(source)):
        if within(name, "main"):
            faults.append(f"{path}:{line}: imports main, which nothing imports")
        elif within(name, "dtr1_jax"):
            inner = name.removeprefix("dtr1_jax").removeprefix(".")
            if not any(within(inner, prefix) for prefix in allowed):
                known = ", ".join(allowed) or "nothing"
                faults.append(f"{path}:{line}: imports {name}; {room or path} may import {known}")
    return faults


def outside_faults(path: str, source: str) -> list[str]:
    """Imports and uses of other people's packages in files that may not have them."""
    tree = ast.parse(source)
    used = imports(path, tree)
    used += [(node.lineno, ast.unparse(node)) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    faults = []
    for line, name in used:
        for prefix, homes in OUTSIDE.items():
            if (within(name, prefix) or name.endswith(f".{prefix}")) and not path.startswith(homes):
                faults.append(f"{path}:{line}: uses {name}; only {', '.join(homes)} may")
    return list(dict.fromkeys(faults))


def shape_faults(path: str, source: str) -> list[str]:
    """Files that are too long or badly named, and what lacks a docstring."""
    faults = []
    lines = source.count("\n")
    if lines > MAX_LINES:
        faults.append(f"{path}: {lines} lines, at most {MAX_LINES}: a new noun is a new file")
    if path.rpartition("/")[2] == "utils.py":
        faults.append(f"{path}: name it after what is in it")
    tree, rows = ast.parse(source), source.splitlines()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= MAX_FUNCTION:
            if "long because" not in "\n".join(rows[max(0, node.lineno - 4) : node.end_lineno]):
                count = node.end_lineno - node.lineno + 1
                faults.append(f"{path}:{node.lineno}: {node.name} has {count} lines, at most {MAX_FUNCTION}")
    if tree.body and not ast.get_docstring(tree):
        faults.append(f"{path}:1: the module has no docstring")
    for owner in [tree, *(n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_"))]:
        for node in owner.body:
            public = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
            linen = isinstance(owner, ast.ClassDef) and public and node.name == "setup"
            if public and not linen and not ast.get_docstring(node):
                faults.append(f"{path}:{node.lineno}: {node.name} has no docstring")
    return faults


def text_faults(path: str, text: str) -> list[str]:
    """Lines with a machine's own paths, and unfinished business in code."""
    faults = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := MACHINE_PATHS.search(line):
            faults.append(f"{path}:{number}: {match[0]} is a path of one machine")
        if path.endswith(".py") and (match := LEFTOVERS.search(line)):
            faults.append(f"{path}:{number}: {match[0]}: do it, or write an issue")
    return faults


def cycle(sources: dict[str, str]) -> list[str]:
    """A ring of modules that import one another, first one repeated at the end; empty if there is none."""
    modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in sources}
    graph = {}
    for module, path in modules.items():
        names = [name for _, name in imports(path, ast.parse(sources[path]))]
        known = [max((m for m in modules if within(name, m)), key=len, default=module) for name in names]
        graph[module] = set(known) - {module}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def code() -> dict[str, str]:
    """Path from the root -> source, of all that is not a test."""
    files = [file for place in CODE for file in sorted(ROOT.glob(place))]
    return {file.relative_to(ROOT).as_posix(): file.read_text() for file in files}


@pytest.mark.parametrize("check", [layer_faults, outside_faults, shape_faults])
def test_code(check):
    sources = code()
    assert len(sources) > 10
    faults = [fault for path, source in sources.items() for fault in check(path, source)]
    assert not faults, "\n" + "\n".join(faults)


def test_no_cycle():
    assert not cycle(code())


def modules() -> list[str]:
    """Path of each module below dtr1_jax/ without .py, such as "rl/loss"; packages are left out."""
    files = (ROOT / "dtr1_jax").rglob("*.py")
    return sorted(f.relative_to(ROOT / "dtr1_jax").as_posix()[:-3] for f in files if f.name != "__init__.py")


def test_no_two_modules_share_a_name():
    """Except the parts that every specialist has, such as specialists/sam2/predictor."""
    homes: dict[str, list[str]] = {}
    for module in modules():
        if re.fullmatch(r"specialists/\w+/(spec|model|weights|predictor)", module):
            continue
        homes.setdefault(module.rpartition("/")[2], []).append(module)
    assert not {name: places for name, places in homes.items() if len(places) > 1}


def files_about(module: str, files: list[str]) -> list[str]:
    """The test files (without .py) that are named after a module.

    The tests of specialists/MODEL/NAME are named after both, since several models have a module of that name.
    """
    room, _, name = module.rpartition("/")
    if re.fullmatch(r"specialists/\w+", room):
        name = f"{room.rpartition('/')[2]}_{name}"
    start = f"{room}/test_{name}".removeprefix("/")
    return [file for file in files if file == start or file.startswith(f"{start}_")]


def test_tests_stand_where_their_module_stands():
    files = sorted(f.relative_to(ROOT / "tests").as_posix()[:-3] for f in (ROOT / "tests").rglob("test_*.py"))
    missing = [module for module in modules() if not files_about(module, files) and module not in TESTED_IN]
    assert not missing, f"no tests/ROOM/test_NAME.py for {missing}"
    found = {file for module in modules() for file in files_about(module, files)}
    assert not set(files) - found - WHOLE, "test files that are named after no module"
    assert all(module in modules() and (ROOT / "tests" / file).is_file() for module, file in TESTED_IN.items())
    assert files and found >= {"rl/test_loss", "data/test_pipeline_demonstrations"} and set(files) >= WHOLE


def test_tracked_text():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    faults = []
    for name in filter(None, listing.stdout.split("\0")):
        file = ROOT / name
        data = file.read_bytes() if file.is_file() else b""
        if b"\0" not in data:
            faults += text_faults(name, data.decode(errors="replace"))
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("types.py", "from dtr1_jax import config", ":1: imports dtr1_jax.config; types may import types"),
        ("twin/a.py", "def f():\n  import dtr1_jax.data.jsonl", ":2: imports dtr1_jax.data.jsonl; twin may"),
        ("twin/a.py", "from ..models import policy", ":1: imports dtr1_jax.models.policy"),
        ("twin/__init__.py", "from ..rl.loss import grpo", ":1: imports dtr1_jax.rl.loss.grpo"),
        ("data/twinworld/a.py", "from ...models import spec", ":1: imports dtr1_jax.models.spec"),
        (
            "data/queries/a.py",
            "from dtr1_jax.data.twinworld import scenes",
            ":1: imports dtr1_jax.data.twinworld.scenes; data.queries may import data.queries, types",
        ),
        ("rl/update.py", "from dtr1_jax.models import layers", ":1: imports dtr1_jax.models.layers; rl may"),
        ("rl/update.py", "from dtr1_jax import models", ":1: imports dtr1_jax.models;"),
        ("rewards/a.py", "from dtr1_jax import twin, mesh", ":1: imports dtr1_jax.mesh;"),
        ("rewards/a.py", "from dtr1_jax.evaluation import table", ":1: imports dtr1_jax.evaluation.table;"),
        ("evaluation/benchmarks/a.py", "from dtr1_jax.twin import masks", ":1: imports dtr1_jax.twin.masks;"),
        (
            "run/checkpoint.py",
            "from dtr1_jax.modes import train",
            ":1: imports dtr1_jax.modes.train; run may import run",
        ),
        ("modes/train.py", "import main", ":1: imports main"),
        ("mesh.py", "import dtr1_jax", ":1: imports dtr1_jax; mesh may import mesh, types"),
        ("__init__.py", "from .types import Example", ":1: imports dtr1_jax.types.Example;"),
        ("helpers.py", "", ": dtr1_jax/helpers has no place in LAYERS"),
    ],
)
def test_wrong_way_is_found(path, source, fault):
    (found,) = layer_faults(f"dtr1_jax/{path}", source)
    assert found.startswith(f"dtr1_jax/{path}{fault}")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "data/readers/jsonl.py",
            "from dtr1_jax.twin import masks\nfrom dtr1_jax.data import prompts\nfrom .. import patches",
        ),
        ("data/twinworld/a.py", "from ..vision import patches\nfrom ...twin.masks import encode\nimport numpy"),
        ("rl/update.py", "from dtr1_jax.models import policy\nfrom dtr1_jax.models.policy import init"),
        (
            "rewards/score.py",
            "from dtr1_jax import config\nfrom dtr1_jax.run import worker_pool\nfrom dtr1_jax.twin.masks import area",
        ),
        ("modes/train.py", "from dtr1_jax.run import checkpoint\nfrom dtr1_jax.rl import update"),
        ("data/queries/a.py", "from dtr1_jax.data.queries import phrases\nfrom dtr1_jax.types import Instance"),
        ("data/twinworld/a.py", "from dtr1_jax.data.queries import pointing"),
        ("rl/update.py", "import maintenance, dtr1_jax_extra"),
    ],
)
def test_right_way_is_not(path, source):
    assert layer_faults(f"dtr1_jax/{path}", source) == []


@pytest.mark.parametrize(
    ("path", "source", "allowed"),
    [
        ("dtr1_jax/rl/a.py", "import flax", False),
        ("dtr1_jax/rl/a.py", "def f():\n  from flax.linen import Dense", False),
        ("dtr1_jax/models/a.py", "from flax import linen", True),
        ("dtr1_jax/models/a.py", "from jax.sharding import PartitionSpec as P", False),
        ("dtr1_jax/models/a.py", "import jax\ns = jax.sharding.PartitionSpec()", False),
        ("dtr1_jax/models/a.py", "import jax\ns = jax.P('data')", False),
        ("dtr1_jax/models/a.py", "from jax import P", False),
        ("dtr1_jax/mesh.py", "from jax.sharding import PartitionSpec as P", True),
        ("dtr1_jax/modes/train.py", "import orbax.checkpoint as ocp", False),
        ("dtr1_jax/run/checkpoint.py", "import orbax.checkpoint as ocp", True),
        ("dtr1_jax/run/checkpoint.py", "import grain", False),
        ("dtr1_jax/data/a.py", "import grain, tensorflow_datasets as tfds", True),
        ("dtr1_jax/modes/evaluate.py", "import tensorflow_datasets as tfds", False),
        ("dtr1_jax/modes/train.py", "from ml_collections import ConfigDict", False),
        ("configs/seg.py", "from ml_collections import ConfigDict", True),
        ("dtr1_jax/modes/train.py", "from absl import logging", False),
        ("main.py", "from absl import app", True),
        ("dtr1_jax/modes/train.py", "import abslx, grainy", True),
    ],
)
def test_outside_packages(path, source, allowed):
    assert (outside_faults(path, source) == []) is allowed


def test_shape():
    doc = '"""Doc."""\n'
    assert shape_faults("a.py", doc + "x = 1\n" * 399) == []
    assert shape_faults("a.py", doc + "x = 1\n" * 400) == ["a.py: 401 lines, at most 400: a new noun is a new file"]
    assert shape_faults("dtr1_jax/utils.py", "") == ["dtr1_jax/utils.py: name it after what is in it"]
    long = "def f():\n" + "  x = 1\n" * 60
    assert shape_faults("a.py", doc + long) == ["a.py:2: f has 61 lines, at most 60", "a.py:2: f has no docstring"]
    assert shape_faults("a.py", doc + "# long because it is a table\n" + long) == ["a.py:3: f has no docstring"]
    source = "class A:\n  def f(self): ...\n  def _g(self): ...\n  def setup(self): ...\ndef h(): ...\ndef _i(): ...\n"
    assert shape_faults("a.py", source) == [
        "a.py:1: the module has no docstring",
        "a.py:5: h has no docstring",
        "a.py:2: f has no docstring",
    ]


def test_text():
    assert text_faults("a.md", "https://host/work/x ~/opt/x {root}/work/x data/root/x") == []
    place = "/" + "opt/"
    assert text_faults("a.md", f"ok\nrun {place}venv/bin/python") == [f"a.md:2: {place} is a path of one machine"]
    assert text_faults("a.py", "# FIX" + "ME later")[0].startswith("a.py:1: ")


def test_cycle():
    sources = {"p/__init__.py": "", "p/a.py": "from p import b", "p/b.py": "def f():\n  from .c import x", "p/c.py": ""}
    assert cycle(sources) == []
    assert set(cycle(sources | {"p/c.py": "import p.a"})) == {"p.a", "p.b", "p.c"}
