# SPDX-License-Identifier: Apache-2.0
"""The embedding model: all-MiniLM-L6-v2 on ONNX Runtime, the mean over the tokens, of length 1."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Sequence
from typing import Any

from benchmarks.models import places

#: Tokens of a text that the model reads. What is longer is refused, not cut.
LONGEST = 256


class Embedder:
    """Texts to vectors of 384 numbers. One batch at a time."""

    def __init__(self, threads: int = 1) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(places.embedding_weights()), options)
        with zipfile.ZipFile(places.embedding_tokenizer()) as archive:
            self._tokenizer: Any = Tokenizer.from_str(archive.read("tokenizer.json").decode())
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._inputs = {each.name for each in self._session.get_inputs()}
        self._lock = threading.Lock()

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text. ValueError for one that is too long."""
        found = [list(self._tokenizer.encode(each).ids) for each in texts]
        for place, ids in enumerate(found):
            if len(ids) > LONGEST:
                raise ValueError(f"input {place} has {len(ids)} tokens, of {LONGEST} at most")
        return found

    def vectors(self, tokens: Sequence[Sequence[int]]) -> list[list[float]]:
        """The vector of each list of tokens."""
        import numpy as np

        longest = max(map(len, tokens))
        ids = np.zeros((len(tokens), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, each in enumerate(tokens):
            ids[row, : len(each)] = each
            mask[row, : len(each)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        with self._lock:
            states = self._session.run(None, {n: inputs[n] for n in self._inputs})[0]
        if states.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            states = (states * weights).sum(axis=1) / weights.sum(axis=1)
        length = np.linalg.norm(states, axis=1, keepdims=True)
        return [[float(number) for number in row] for row in states / length]
