"""Compiled programs that one command leaves for the next, so that a training starts in a second or two instead of ten.

JAX's persistent cache, in a folder of its own for each version of JAX and each kind of processor, so that machines may
share a home folder.
"""

import hashlib
import platform
import warnings
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 1 << 30  # of one folder; the oldest programs give way


def use_compile_cache(choice: str) -> None:
    """Turns the cache on; "auto" does so on a CPU, and "off" never.

    On a CPU a program from the cache gives the same bits as one that has just been compiled: so did 33 trainings,
    searches and sweeps with JAX 0.10.2 and with 0.12. Elsewhere that has not been measured. A cache that the user has
    chosen for JAX stays, and so does a folder that cannot be written.
    """
    import jax

    if choice == "off" or jax.config.jax_compilation_cache_dir or (choice == "auto" and jax.default_backend() != "cpu"):
        return
    from funcgrad.datasets import cache_root

    processor = platform.processor()
    with suppress(OSError):  # only Linux has it
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        processor = next((line for line in lines if line.startswith(("flags", "Features"))), processor)
    version = f"{jax.__version__} {jax.lib.__version__} {platform.machine()} {processor}"
    folder = cache_root() / f"compiled-{hashlib.sha256(version.encode()).hexdigest()[:16]}"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        remove_oldest(folder, MAX_BYTES)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        warnings.filterwarnings("ignore", message=".*persistent compilation cache")  # of a full disk: JAX goes on


def remove_oldest(folder: Path, max_bytes: int) -> None:
    """Removes the files written first until no more bytes are left than these."""
    files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in folder.iterdir())
    excess = sum(size for _, size, _ in files) - max_bytes
    for _, size, path in files:
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= size
