"""Package `dtr1_jax`; extras: tpu, cuda, cuda12, gs, s3, video, parquet, onnx, test, docs, parity."""

from setuptools import find_packages, setup

JAX = ">=0.10,<0.13"

setup(
    name="dtr1_jax",
    version="0.2.0",
    description="DT-R1 in JAX: a vision-language policy builds a digital twin, reasons over it and learns by GRPO",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    # `configs` is installed too, so that `from configs import seg` works outside a checkout.
    packages=find_packages(include=["dtr1_jax", "dtr1_jax.*", "configs"]),
    package_data={"dtr1_jax": ["assets/**"]},
    install_requires=[
        f"jax{JAX}",
        "flax>=0.12.8,<0.13",
        "optax>=0.2.8,<0.3",
        "orbax-checkpoint>=0.12.8,<0.13",
        "grain>=0.2.18,<0.3",
        "transformers>=5.23,<6",
        "tokenizers>=0.22,<0.24",
        "tensorflow-datasets>=4.9.10,<5",
        "ml_collections>=1.1,<2",
        "absl-py>=2.3",
        "numpy>=2,<3",
        "scipy>=1.14",
        "safetensors>=0.7,<0.9",
        "huggingface_hub>=1.31,<3",
        "gguf>=0.19,<0.20",
        "pillow>=11",
        "jinja2>=3.1",
        "opencv-python-headless>=4.10,<6",
        "tensorboardX>=2.6.4,<3",
        "sacrebleu>=2.4,<3",
        "jaxtyping>=0.3,<0.4",
        "etils[epath]>=1.12",
    ],
    extras_require={
        "tpu": [f"jax[tpu]{JAX}"],
        "cuda": [f"jax[cuda13]{JAX}"],
        "cuda12": [f"jax[cuda12]{JAX}"],  # for GPU drivers older than CUDA 13 asks for
        "gs": ["gcsfs>=2025.3"],  # workdirs, data and weights in gs:// buckets
        "s3": ["s3fs>=2025.3"],  # data and weights in s3:// buckets
        "video": ["av>=14,<19"],  # reads video files; folders of frames need nothing
        "parquet": ["pyarrow>=17"],  # reads data sets and benchmarks in Parquet files
        "onnx": ["onnxruntime>=1.20,<2"],  # detectors and depth models as .onnx files, on CPUs
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.120",
            "pycocotools>=2.0.8",
            "av>=14,<19",
            "pyarrow>=17",
            "onnxruntime>=1.20,<2",
            "ruff>=0.12",
            "mypy>=1.18",
            "nbclient>=0.10",
            "ipykernel>=6.29",
        ],
        "docs": ["sphinx>=9,<10", "myst-parser>=5,<6", "sphinx-book-theme>=1.1.4,<2"],
        # reference models and metrics; the tests that compare with them skip without it
        "parity": ["torch==2.13.0", "peft>=0.19,<0.22", "rouge-score>=0.1.2,<0.2", "pycocoevalcap>=1.2,<2"],
    },
)
