"""Rewriting passes: each a function from graph to graph that leaves the outputs' values as they are, up to rounding.

A pass returns a new :class:`~fastconv.graph.ir.Graph`; nodes and constants that it does not change are shared.  The order
of :data:`PASSES` is the order in which they run; a session can leave any of them out.  Those of :data:`SHAPED` run when a
graph is compiled for inputs of given shapes, and take its values, as the lowering gives them, as their second argument.
"""

from fastconv.graph.passes.activations import fuse_activations
from fastconv.graph.passes.affine import fold_affine
from fastconv.graph.passes.canonical import canonical_convolutions
from fastconv.graph.passes.channels_first import channels_first
from fastconv.graph.passes.clamp import fuse_clamp
from fastconv.graph.passes.constants import fold_constants
from fastconv.graph.passes.dead import drop_dead, drop_identities
from fastconv.graph.passes.epilogue import fuse_epilogues
from fastconv.graph.passes.halves import widen_halves
from fastconv.graph.passes.layer_norm import fuse_layer_norm
from fastconv.graph.passes.linear import fold_linear
from fastconv.graph.passes.padding import fold_padding
from fastconv.graph.passes.residual import fuse_residual
from fastconv.graph.passes.slices import slice_batches

__all__ = [
    "LESS_ROUNDING",
    "PASSES",
    "SHAPED",
    "canonical_convolutions",
    "channels_first",
    "drop_dead",
    "drop_identities",
    "fold_affine",
    "fold_constants",
    "fold_linear",
    "fold_padding",
    "fuse_activations",
    "fuse_clamp",
    "fuse_epilogues",
    "fuse_layer_norm",
    "fuse_residual",
    "slice_batches",
    "widen_halves",
]

PASSES = {
    "widen_halves": widen_halves,
    "drop_identities": drop_identities,
    "fuse_layer_norm": fuse_layer_norm,
    "fuse_activations": fuse_activations,
    "canonical_convolutions": canonical_convolutions,
    "fold_padding": fold_padding,
    "fold_affine": fold_affine,
    "fold_linear": fold_linear,
    "channels_first": channels_first,
    "fuse_residual": fuse_residual,
    "fuse_clamp": fuse_clamp,
    "fuse_epilogues": fuse_epilogues,
    "drop_dead": drop_dead,
}
LESS_ROUNDING = {"widen_halves"}  # than the operators ask for: not in strict precision
SHAPED = {"slice_batches": slice_batches}
