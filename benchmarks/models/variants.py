# SPDX-License-Identifier: Apache-2.0
"""Other weights from the shipped ones, with the package `gguf`: what a dishonest host would serve.

The shipped file is Q4_1 with 30 blocks. `q4_0` and `q8_0` have the same weights in another
quantisation, `fewer` leaves out blocks in the middle, which makes it a smaller model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.models import places

#: The first block that `fewer` leaves out, and how many.
CUT_AT, CUT = 12, 6


def weights(name: str) -> Path:
    """The file of a variant, made when it is first asked for. ValueError for an unknown name."""
    shipped = places.chat_weights()
    if name == "q4_1":
        return shipped
    makers: dict[str, Callable[[Path, Path], None]] = {
        "q4_0": lambda source, target: _write(source, target, quantisation="Q4_0"),
        "q8_0": lambda source, target: _write(source, target, quantisation="Q8_0"),
        "fewer": lambda source, target: _write(source, target, cut=CUT),
    }
    if name not in makers:
        raise ValueError(f"no weights {name!r}: take q4_1, {', '.join(makers)}")
    target = places.BUILD / f"{name}.gguf"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(".new")
        makers[name](shipped, fresh)
        fresh.rename(target)
    return target


def _write(source: Path, target: Path, quantisation: str | None = None, cut: int = 0) -> None:
    """Copies a model: matrices in another quantisation, or without `cut` blocks from `CUT_AT`."""
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, arch="llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        value: Any = field.contents()
        if name == "llama.block_count":
            value -= cut
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, kind, sub_type=inner)
    for tensor in reader.tensors:
        name = _renamed(tensor.name, cut)
        if name is None:
            continue
        wanted = tensor.tensor_type
        data: Any = tensor.data
        if quantisation is not None and wanted == gguf.GGMLQuantizationType.Q4_1:
            wanted = gguf.GGMLQuantizationType[quantisation]
            data = gguf.quantize(gguf.dequantize(data, tensor.tensor_type), wanted)
        writer.add_tensor(name, data, raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _renamed(name: str, cut: int) -> str | None:
    """The name of a tensor when blocks are left out; None for one of those."""
    parts = name.split(".")
    if parts[0] != "blk" or not cut:
        return name
    block = int(parts[1])
    if CUT_AT <= block < CUT_AT + cut:
        return None
    return ".".join(["blk", str(block - cut if block >= CUT_AT else block), *parts[2:]])
