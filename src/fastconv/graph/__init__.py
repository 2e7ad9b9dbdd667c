"""From a network's graph to a program: rewriting passes, lowering to kernels, and a plan of the memory."""
