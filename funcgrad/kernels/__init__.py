"""Kernels for accelerators, one file each, beside its jnp reference. None is chosen before it was measured to win."""
