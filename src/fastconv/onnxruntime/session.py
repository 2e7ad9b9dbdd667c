"""onnxruntime's InferenceSession on fastconv's."""

from __future__ import annotations

import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np

import fastconv
from fastconv.errors import ArgumentError, ArgumentTypeError, ModelError
from fastconv.onnx.session import InferenceSession as Engine
from fastconv.onnx.session import ModelMeta, NodeArg
from fastconv.onnxruntime.errors import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    RuntimeException,
)
from fastconv.onnxruntime.options import GraphOptimizationLevel, RunOptions, SessionOptions
from fastconv.onnxruntime.values import IOBinding, OrtValue, as_array

__all__ = ["CPU", "InferenceSession"]

CPU = "CPUExecutionProvider"


class InferenceSession:
    """Runs a model.

    Parameters
    ----------
    path_or_bytes : path of an ONNX file, or its bytes
    sess_options : see :class:`fastconv.onnxruntime.SessionOptions`
    providers, provider_options : names that are not ``CPUExecutionProvider`` are warned about and left out

    Raises NoSuchFile, InvalidProtobuf for a damaged file, InvalidGraph for an impossible one or missing operators.
    """

    def __init__(
        self,
        path_or_bytes,
        sess_options: SessionOptions | None = None,
        providers: Sequence | None = None,
        provider_options: Sequence[dict] | None = None,
        **kwargs,
    ):
        self._options = SessionOptions() if sess_options is None else sess_options
        self._model_path = os.fspath(path_or_bytes) if isinstance(path_or_bytes, (str, os.PathLike)) else None
        if self._model_path is None and not isinstance(path_or_bytes, bytes):
            raise TypeError(f"Unable to load from type '{type(path_or_bytes)}'")
        _check_providers(providers, provider_options)
        if self._options.optimized_model_filepath:
            warnings.warn("optimized_model_filepath: fastconv writes no optimised models", stacklevel=2)
        self._engine = _load(path_or_bytes, self._options)
        self._inputs = self._engine.get_inputs()
        self._start_ns = time.monotonic_ns()
        self._runs: list[dict] = []

    def get_session_options(self) -> SessionOptions:
        """The options that the session was made with."""
        return self._options

    def get_inputs(self) -> list[NodeArg]:
        """The model's inputs: name, shape and type of each."""
        return self._overridden(self._engine.get_inputs())

    def get_outputs(self) -> list[NodeArg]:
        """The model's outputs: name, shape and type of each."""
        return self._overridden(self._engine.get_outputs())

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Initializers that a feed may replace."""
        return self._engine.get_overridable_initializers()

    def get_modelmeta(self) -> ModelMeta:
        """Names, versions and further entries that the file says of itself."""
        return self._engine.get_modelmeta()

    def get_providers(self) -> list[str]:
        """``["CPUExecutionProvider"]``."""
        return [CPU]

    def get_provider_options(self) -> dict[str, dict]:
        """An empty dictionary for the one provider."""
        return {CPU: {}}

    def set_providers(self, providers: Sequence | None = None, provider_options: Sequence[dict] | None = None) -> None:
        """Warns of providers that are not there; there is one."""
        _check_providers(providers, provider_options)

    def disable_fallback(self) -> None:
        """Without effect: there is nothing to fall back to."""

    def enable_fallback(self) -> None:
        """Without effect: there is nothing to fall back to."""

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping, run_options: RunOptions | None = None
    ) -> list:
        """The named outputs, or all for None or an empty list, for arrays, OrtValues or lists by name.

        Raises ValueError for missing inputs, InvalidArgument for other feeds that do not fit, RuntimeException where an
        operator fails, as onnxruntime does.
        """
        missing = [i.name for i in self._inputs if i.name not in input_feed and not i.type.startswith("optional")]
        if missing:
            raise ValueError(f"Required inputs ({missing}) are missing from input feed ({list(input_feed)}).")
        if run_options is not None and run_options.terminate:
            raise Fail("Exiting due to terminate flag being set to true.")
        feeds = {name: as_array(value) for name, value in input_feed.items()}
        for info in self._inputs:
            if isinstance(feeds.get(info.name), (list, int, float)) and info.dtype is not None:
                feeds[info.name] = np.asarray(feeds[info.name], info.dtype)
        start = time.monotonic_ns()
        try:
            results = self._engine.run(output_names or None, feeds)
        except ModelError as error:
            raise RuntimeException(str(error)) from error
        except (ArgumentError, ArgumentTypeError) as error:
            raise InvalidArgument(str(error)) from error
        if self._options.enable_profiling:
            self._record(start, time.monotonic_ns())
        return results

    def run_async(self, output_names, input_feed, callback: Callable, user_data, run_options=None) -> None:
        """Run in a thread of its own, then call ``callback(results, user_data, error)``; `error` is "" or a message."""

        def work():
            try:
                results, error = self.run(output_names, input_feed, run_options), ""
            except Exception as failure:
                results, error = [], str(failure)
            callback(results, user_data, error)

        threading.Thread(target=work, daemon=True).start()

    def run_with_ort_values(self, output_names, input_dict_ort_values, run_options=None) -> list[OrtValue]:
        """:meth:`run` with OrtValues as results."""
        return [OrtValue(value) for value in self.run(output_names, input_dict_ort_values, run_options)]

    def io_binding(self) -> IOBinding:
        """A new :class:`IOBinding` of this session."""
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Run on what is bound; ``iobinding.get_outputs()`` has the results, unless they are bound to memory."""
        if iobinding._session is not self:
            raise ValueError("IOBinding must be used with the session that created it.")
        iobinding._run(run_options)

    def get_profiling_start_time_ns(self) -> int:
        """When the session was made, in nanoseconds of the monotonic clock."""
        return self._start_ns

    def end_profiling(self) -> str:
        """Write the runs since the start, with `enable_profiling`, as a Chrome trace; the file's name, or ""."""
        if not self._options.enable_profiling:
            return ""
        name = f"{self._options.profile_file_prefix}_{time.strftime('%Y-%m-%d_%H-%M-%S')}.json"
        with open(name, "w") as file:
            json.dump(self._runs, file)
        return name

    def _record(self, start: int, end: int) -> None:
        times = {"ts": (start - self._start_ns) // 1000, "dur": (end - start) // 1000}
        place = {"pid": os.getpid(), "tid": threading.get_ident()}
        self._runs.append({"cat": "Session", "name": "model_run", "ph": "X", "args": {}, **times, **place})

    def _overridden(self, arguments: list[NodeArg]) -> list[NodeArg]:
        sizes = self._options._free_dimensions
        for argument in arguments:
            argument.shape = [sizes.get(size, size) for size in argument.shape]
        return arguments


def _load(model, options: SessionOptions) -> Engine:
    whole = options.graph_optimization_level != GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return Engine(
            model, options.intra_op_num_threads or None, passes=None if whole else (), **_engine_options(options)
        )
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NoSuchFile(f"Load model from {model} failed:{error.strerror}: {error.filename}") from error
    except ModelError as error:
        kind = (
            InvalidGraph if error.where.startswith("graph") or "there is no operator" in error.what else InvalidProtobuf
        )
        raise kind(f"Failed to load model: {error}") from error
    except ArgumentError as error:
        raise InvalidArgument(str(error)) from error


def _engine_options(options: SessionOptions) -> dict[str, object]:
    """The configuration entries that are arguments of the engine: precision and weights are words, the others numbers."""
    found: dict[str, object] = {}
    for key, value in options._entries.items():
        space, _, name = key.partition(".")
        if space != "fastconv":
            continue
        words = ("precision", "weights")
        if name not in ("memory_limit", "max_turns", *words):
            known = "fastconv.memory_limit, fastconv.max_turns, fastconv.precision, fastconv.weights"
            raise ArgumentError(f"configuration entry {key!r}: expected one of {known}")
        if name not in words and not value.isdecimal():
            raise ArgumentError(f"configuration entry {key!r}: expected a whole number, got {value!r}")
        found[name] = value if name in words else int(value)
    return found


def _check_providers(providers: Sequence | None, options: Sequence[dict] | None) -> None:
    if providers is None:
        return
    if isinstance(providers, str) or not isinstance(providers, Sequence):
        raise ValueError("'providers' should be a sequence.")
    if options is not None and len(options) != len(providers):
        raise ValueError("'providers' and 'provider_options' should be the same length if both are given.")
    for provider in providers:
        name = provider[0] if isinstance(provider, tuple) and len(provider) == 2 else provider
        if not isinstance(name, str):
            raise ValueError("'providers' values must be either strings or (string, dict) tuples.")
        if name != CPU:
            warnings.warn(
                f"Specified provider '{name}' is not in available provider names.Available providers: '{CPU}' "
                f"(fastconv {fastconv.__version__})",
                stacklevel=3,
            )
