"""What onnxruntime lets one set for a session and for a run.

Every attribute is accepted and kept.  Those that mean something here: `intra_op_num_threads`, `graph_optimization_level`,
`enable_profiling` with `profile_file_prefix`, free-dimension overrides, and the configuration entries
``fastconv.memory_limit``, ``fastconv.max_turns``, ``fastconv.precision`` and ``fastconv.weights``, arguments of
:class:`fastconv.InferenceSession`.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import ClassVar

from fastconv.onnxruntime import errors

__all__ = ["ExecutionMode", "ExecutionOrder", "GraphOptimizationLevel", "RunOptions", "SessionOptions"]


class GraphOptimizationLevel(IntEnum):
    """With ORT_DISABLE_ALL the graph is run as it stands in the file; the other levels are the same here."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(Enum):
    """Accepted and without effect: steps run one after the other, each on all threads."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(Enum):
    """Accepted and without effect."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


class _Options:
    """Attributes that exist can be set, to values of their kind; others are errors, as in onnxruntime."""

    _defaults: ClassVar[dict[str, object]] = {}

    def __init__(self):
        self.__dict__.update(self._defaults)
        self.__dict__["_entries"] = {}

    def __setattr__(self, name: str, value) -> None:
        if name not in self._defaults:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        kind = type(self._defaults[name])
        if not isinstance(value, kind):
            if isinstance(value, bool) or not isinstance(value, int) or kind not in (bool, GraphOptimizationLevel):
                raise TypeError(f"{name}: expected {kind.__name__}, got {type(value).__name__}")
            value = kind(value)
        self.__dict__[name] = value

    def _add(self, key: str, value: str) -> None:
        self._entries[str(key)] = str(value)

    def _get(self, key: str) -> str:
        if key not in self._entries:
            raise RuntimeError(f"{type(self).__name__} does not have configuration with key: {key}")
        return self._entries[key]


class SessionOptions(_Options):
    """onnxruntime's options of a session."""

    _defaults: ClassVar = {
        "enable_cpu_mem_arena": True,
        "enable_mem_pattern": True,
        "enable_mem_reuse": True,
        "enable_profiling": False,
        "execution_mode": ExecutionMode.ORT_SEQUENTIAL,
        "execution_order": ExecutionOrder.DEFAULT,
        "graph_optimization_level": GraphOptimizationLevel.ORT_ENABLE_ALL,
        "inter_op_num_threads": 0,
        "intra_op_num_threads": 0,
        "log_severity_level": -1,
        "log_verbosity_level": 0,
        "logid": "",
        "optimized_model_filepath": "",
        "profile_file_prefix": "onnxruntime_profile_",
        "use_deterministic_compute": False,
        "use_per_session_threads": True,
    }

    def __init__(self):
        super().__init__()
        self.__dict__["_free_dimensions"] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Set a configuration entry; those that begin with ``fastconv.`` mean something here."""
        self._add(key, value)

    def get_session_config_entry(self, key: str) -> str:
        """The value of an entry; RuntimeError where it was not set."""
        return self._get(key)

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Let the symbolic size `name` of the model's inputs and outputs be `size`."""
        self._free_dimensions[name] = int(size)

    def add_free_dimension_override_by_denotation(self, denotation: str, size: int) -> None:
        """Without effect: the file's denotations are not read."""

    def add_provider(self, name: str, options: dict) -> None:
        """Without effect: there is one provider."""

    def has_providers(self) -> bool:
        """False: there is one provider, and none can be added."""
        return False

    def register_custom_ops_library(self, path: str) -> None:
        """Raises NotImplemented."""
        raise errors.NotImplemented(f"custom operators of a compiled library cannot be loaded: {path}")

    def add_initializer(self, name: str, value) -> None:
        """Raises NotImplemented."""
        raise errors.NotImplemented(
            f"initializer {name!r}: replacing initializers by name is not supported; edit the model"
        )

    def add_external_initializers(self, names, values) -> None:
        """Raises NotImplemented."""
        raise errors.NotImplemented("replacing initializers by name is not supported; edit the model")


class RunOptions(_Options):
    """onnxruntime's options of a run.  A run whose `terminate` is set when it begins, fails."""

    _defaults: ClassVar = {
        "log_severity_level": -1,
        "log_verbosity_level": 0,
        "logid": "",
        "only_execute_path_to_fetches": False,
        "terminate": False,
    }

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Set a configuration entry, without effect."""
        self._add(key, value)

    def get_run_config_entry(self, key: str) -> str:
        """The value of an entry; RuntimeError where it was not set."""
        return self._get(key)
