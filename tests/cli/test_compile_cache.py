"""Compiled programs are found again by the next process, and the oldest give way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from funcgrad.cli.compile_cache import remove_oldest

CODE = """if True:
    import sys
    import jax
    from funcgrad.cli.compile_cache import use_compile_cache
    use_compile_cache(sys.argv[1])
    print(jax.jit(lambda x: jax.numpy.sin(x) @ x)(jax.numpy.arange(300.0)).tobytes().hex())
"""


def test_a_program_is_compiled_once_for_all_processes(tmp_path: Path) -> None:
    environment = {**os.environ, "FUNCGRAD_CACHE_DIR": str(tmp_path)}
    outputs, files = [], []
    for choice in ("off", "auto", "on"):
        command = [sys.executable, "-c", CODE, choice]
        outputs.append(subprocess.run(command, capture_output=True, text=True, check=True, env=environment))
        files.append({path.name: path.stat().st_mtime_ns for path in tmp_path.glob("compiled-*/*-cache")})
    assert files[0] == {}
    assert files[1]
    assert files[1] == files[2]
    assert len({done.stdout for done in outputs}) == 1
    assert [done.stderr for done in outputs] == ["", "", ""]


def test_the_oldest_programs_give_way(tmp_path: Path) -> None:
    for age, name in enumerate("dcba"):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    remove_oldest(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "d"]


@pytest.mark.exhaustive
def test_a_second_training_starts_from_what_the_first_has_compiled_and_gives_the_same_bits(tmp_path: Path) -> None:
    environment = {**os.environ, "FUNCGRAD_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("JAX_DISABLE_MOST_OPTIMIZATIONS", None)
    written = []
    for number, options in enumerate((["--compile-cache", "off"], [], [])):
        out = tmp_path / str(number)
        arguments = ["train", "mlp", "--epochs", "2", "--dropout", "0.2", "--quiet", "--out", str(out), *options]
        command = [sys.executable, "-c", "from funcgrad import cli; raise SystemExit(cli.main())", *arguments]
        subprocess.run(command, check=True, env=environment)
        written.append((out / "params.safetensors").read_bytes())
    assert len(set(written)) == 1
    assert [*(tmp_path / "cache").glob("compiled-*/*-cache")]
