"""``fastconv.compile``: a module's forward, recorded once for an example, as a program of the inference engine."""

from fastconv.tracing.compiled import CompiledModule, compile

__all__ = ["CompiledModule", "compile"]
