"""Package `dtr1_jax`; extras: tpu, cuda, test, parity."""

from setuptools import find_packages, setup

setup(
    name="dtr1_jax",
    version="0.1.0",
    description="DT-R1 in JAX: a vision-language policy that builds a digital twin, reasons over it and is trained by GRPO",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["dtr1_jax", "dtr1_jax.*", "configs"]),
    package_data={"dtr1_jax": ["assets/**/*"]},
    install_requires=[
        "jax>=0.10,<0.13",
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
        "safetensors>=0.7,<0.9",
        "pillow>=11",
        "jinja2>=3.1",
        "opencv-python-headless>=4.10,<6",
        "tensorboardX>=2.6.4,<3",
        "jaxtyping>=0.3,<0.4",
    ],
    extras_require={
        "tpu": ["jax[tpu]>=0.10,<0.13"],
        "cuda": ["jax[cuda13]>=0.10,<0.13"],
        "test": ["pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.120", "pycocotools>=2.0.8", "scipy>=1.14", "ruff>=0.12"],
        "parity": ["torch==2.13.0"],
    },
)
