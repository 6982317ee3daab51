"""A checkpoint gives back bit for bit what went in; or an older one is used, or one clear line says why not."""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcgrad import models
from funcgrad.files import DifferentRun
from funcgrad.training import checkpoint

pytestmark = pytest.mark.optimized

CONFIG = {"learning_rate": 0.1, "hidden": [8, 4], "schedule": None}


def make_state(seed: int = 0) -> dict[str, Any]:
    """A training state with some of everything."""
    key = jax.random.key(seed)
    params = models.mlp((8, 4), 3).init(key, (5,))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.1, 10)))
    return {
        "params": params,
        "opt_state": optimizer.init(params),
        "key_data": jax.random.key_data(jax.random.fold_in(key, 1)),
        "epoch": seed,
        "best": -float("inf"),
        "stopped_by": None,
        "history": {"loss": [1.5, float("nan"), 0.1][:seed], "note": ["é"]},
        "half": jnp.asarray([1.0, -0.0, jnp.inf], jnp.bfloat16),
        "wide": np.asarray([np.pi, seed], np.float64),
        "count": np.int64(2**40 + seed),
        "right": (np.asarray(True), jnp.zeros((0, 3)), np.asarray([[1 + 2j]], np.complex64)),
        "odd names / here": {"": jnp.arange(3.0), "ß%": np.arange(4, dtype=np.uint8)},
    }


def bits(tree: Any) -> list[Any]:
    """All that a tree is: structure, types, dtypes and bytes."""
    leaves, structure = jax.tree.flatten(tree)
    return [structure] + [
        repr(leaf) if not hasattr(leaf, "dtype") else (type(leaf), leaf.dtype, leaf.shape, np.asarray(leaf).tobytes())
        for leaf in leaves
    ]


def found(folder: Path, like: Any, **options: Any) -> checkpoint.Restored:
    restored = checkpoint.restore(folder, like, **options)
    assert restored is not None
    return restored


@pytest.mark.exhaustive
def test_every_kind_of_leaf_comes_back_bit_for_bit(tmp_path: Path) -> None:
    state = make_state(3)
    checkpoint.save(tmp_path / "kept", 12, state, config=CONFIG)
    restored = found(tmp_path / "kept", make_state(0), config=CONFIG)
    assert bits(restored.tree) == bits(state)
    assert (restored.step, restored.notes) == (12, ())
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["step-000000012.npz"]


@pytest.mark.parametrize("tree", [jnp.arange(3), {}, 1.5, {"a": [1, "b", None]}, (jnp.ones(()), 2), []], ids=str)
def test_any_tree_is_one(tree: Any, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 0, tree, config={})
    assert bits(found(tmp_path, tree).tree) == bits(tree)


def test_arrays_return_to_where_they_lay(tmp_path: Path) -> None:
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, everywhere = (jax.NamedSharding(mesh, spec) for spec in (jax.P("rows"), jax.P()))
    tree = {"a": jax.device_put(jnp.arange(8.0), rows), "b": jax.device_put(jnp.arange(3), everywhere)}
    checkpoint.save(tmp_path, 1, tree, config={})
    restored = found(tmp_path, tree).tree
    assert bits(restored) == bits(tree)
    assert {name: array.sharding for name, array in restored.items()} == {"a": rows, "b": everywhere}


def test_what_is_saved_is_the_state_at_the_call_though_it_is_consumed_afterwards(tmp_path: Path) -> None:
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    state, history, mutable = jnp.zeros(100_000), {"loss": [0.0]}, np.zeros(100_000)
    with checkpoint.saver(tmp_path, config={}, keep=None) as save:
        for step in range(1, 6):
            state = add(state)
            mutable += 1
            history["loss"].append(float(step))
            save(step, {"state": state, "history": history, "mutable": mutable})
        state = add(state)
        mutable += 1
        history["loss"].append(0.0)
    for step in (5, 4, 3, 2, 1):
        tree = found(tmp_path, {"state": state, "history": {}, "mutable": mutable}).tree
        assert np.all(tree["state"] == step)
        assert np.all(tree["mutable"] == step)
        assert tree["history"] == {"loss": [float(number) for number in range(step + 1)]}
        (tmp_path / f"step-{step:09}.npz").unlink()


def test_the_newest_are_kept(tmp_path: Path) -> None:
    tree = {"a": jnp.ones(2)}
    with checkpoint.saver(tmp_path, config={}, keep=3) as save:
        for step in (1, 2, 5, 10, 1000):
            save(step, tree)
    assert checkpoint.steps(tmp_path) == [5, 10, 1000]
    checkpoint.save(tmp_path, 1001, tree, config={}, keep=None)
    assert checkpoint.steps(tmp_path) == [5, 10, 1000, 1001]
    checkpoint.save(tmp_path, 1002, tree, config={}, keep=1)
    assert checkpoint.steps(tmp_path) == [1002]


def test_a_step_that_is_saved_again_replaces_itself_and_what_came_after_it(tmp_path: Path) -> None:
    for step, value in ((1, 0.0), (2, 0.0), (3, 0.0), (2, 1.0)):
        checkpoint.save(tmp_path, step, {"a": jnp.full(2, value)}, config={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000001.npz", "step-000000002.npz"]
    restored = found(tmp_path, {"a": jnp.zeros(2)})
    assert (restored.step, restored.tree["a"].tolist()) == (2, [1.0, 1.0])


def test_what_killed_processes_left_is_cleared_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / ".step-000000004" / "arrays").mkdir(parents=True)  # in an earlier format
    (tmp_path / ".step-000000004.npz.123.456").write_bytes(b"half")
    (tmp_path / "step-by-step.txt").write_text("mine")
    assert checkpoint.steps(tmp_path) == []
    assert checkpoint.restore(tmp_path, {}) is None
    checkpoint.save(tmp_path, 1, {}, config={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000001.npz", "step-by-step.txt"]
    checkpoint.remove(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-by-step.txt"]
    checkpoint.save(tmp_path / "own", 1, {}, config={})
    checkpoint.remove(tmp_path / "own")
    checkpoint.remove(tmp_path / "own")
    assert not (tmp_path / "own").exists()


# Damage


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path, random.Random], object]] = {
    "a bit": flip,
    "the end": lambda path, rng: os.truncate(path, rng.randrange(path.stat().st_size)),
    "all": lambda path, rng: path.write_bytes(b""),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_noticed_and_the_one_before_is_used(damage: str, tmp_path: Path) -> None:
    rng = random.Random(0)
    states = [{**make_state(seed), "large": np.zeros(10_000)} for seed in (1, 2)]
    for step, state in enumerate(states):
        checkpoint.save(tmp_path, step, state, config=CONFIG)
    newest = tmp_path / "step-000000001.npz"
    data, noticed = newest.read_bytes(), 0
    for _ in range(20):
        newest.write_bytes(data)
        DAMAGE[damage](newest, rng)
        restored = found(tmp_path, states[0])
        assert bits(restored.tree) == bits(states[restored.step])
        assert bool(restored.notes) == (restored.step == 0)
        for note in restored.notes:
            noticed += 1
            assert note.startswith(f"checkpoint: step 1 in {tmp_path} is damaged and not used: ")
            assert "\n" not in note
    assert noticed > 15  # the others changed nothing but what a ZIP archive says twice


def test_every_single_byte_is_guarded(tmp_path: Path) -> None:
    """A changed byte is noticed, or changes nothing: a ZIP archive says some things twice, and the time of writing."""
    tree = {"a": np.arange(3.0), "b": 7}
    checkpoint.save(tmp_path, 1, tree, config={})
    (path,) = tmp_path.iterdir()
    data, harmless = path.read_bytes(), 0
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x20]) + data[position + 1 :])
        if (restored := checkpoint.restore(tmp_path, tree)) is not None:
            assert bits(restored.tree) == bits(tree), position
            harmless += 1
    assert harmless < 200


def test_nothing_whole_is_none_and_the_next_save_goes_on(tmp_path: Path) -> None:
    tree = {"a": jnp.arange(3.0)}
    for step in (1, 2):
        checkpoint.save(tmp_path, step, tree, config={})
        os.truncate(tmp_path / f"step-{step:09}.npz", 100)
    assert checkpoint.restore(tmp_path, tree) is None
    assert checkpoint.steps(tmp_path) == [1, 2]
    checkpoint.save(tmp_path, 1, tree, config={})
    assert found(tmp_path, tree).notes == ()


# Refusals


def test_another_configuration_is_refused_with_every_difference(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {}, config={**CONFIG, "optimizer": "adam"})
    assert found(tmp_path, {}, config={**CONFIG, "hidden": (8, 4), "optimizer": "adam"}).step == 1
    assert found(tmp_path, {}).step == 1
    ours = {"learning_rate": 0.01, "hidden": [8], "schedule": None, "seed": 0}
    with pytest.raises(DifferentRun) as raised:
        checkpoint.restore(tmp_path, {}, config=ours)
    assert str(raised.value) == (
        f"checkpoint: step 1 in {tmp_path} was saved with learning rate 0.1 and not 0.01, hidden [8, 4] and not [8], "
        "seed none and not 0, optimizer adam and not none"
    )


def test_a_checkpoint_in_another_format_is_refused(tmp_path: Path) -> None:
    """Those of format 1 may have square weights, so that no shape shows it; until format 2 they were folders."""
    tree = {"weights": jnp.ones((3, 3))}
    checkpoint.save(tmp_path, 1, tree, config={})
    (path,) = tmp_path.iterdir()
    with np.load(path) as archive:
        arrays = dict(archive)
    about = json.loads(str(arrays["about"])) | {"format": 4}
    np.savez(path, **{**arrays, "about": np.asarray(json.dumps(about))})
    with pytest.raises(ValueError, match=r"^checkpoint: step 1 in .* has format 4, .* reads 3; train from"):
        checkpoint.restore(tmp_path, tree)
    (tmp_path / "step-000000002").mkdir()
    with pytest.raises(ValueError, match=r"^checkpoint: step 2 in .* has format below 3, .* reads 3; train from"):
        checkpoint.restore(tmp_path, tree)
    checkpoint.remove(tmp_path)
    assert not tmp_path.exists()


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"a": jnp.ones(3), "b": 0}, r"a float32\[2\] and not float32\[3\]"),
        ({"a": jnp.ones(2, int), "b": 0}, r"a float32\[2\] and not int32\[2\]"),
        ({"a": {"c": jnp.ones(2)}, "b": 0}, r"a.c none and not float32\[2\], a float32\[2\] and not none"),
        ({"a": jnp.ones(2), "b": jnp.ones(())}, r"b a plain value and not float32\[\]"),
        ([jnp.ones(2)] * 4, r"0 none and not float32\[2\], 1 none .*, b a plain value and not none$"),
    ],
)
def test_another_tree_is_refused(like: Any, message: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {"a": jnp.ones(2), "b": 3}, config={})
    with pytest.raises(ValueError, match=f"^checkpoint: step 1 in .* has another tree: {message}"):
        checkpoint.restore(tmp_path, like)


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^keep: must be at least 1, or None for all; got 0$"):
        checkpoint.save(tmp_path, 1, {}, config={}, keep=0)
    with pytest.raises(ValueError, match=r"^step: must be at least 0, got -1$"):
        checkpoint.save(tmp_path, -1, {}, config={})
    with pytest.raises(TypeError, match=r"^Object of type set is not JSON serializable"):
        checkpoint.save(tmp_path, 1, {}, config={"out": {1}})
    with pytest.raises(TypeError, match=r"^tree: a.0 is set; needs arrays of numbers and plain Python values$"):
        checkpoint.save(tmp_path, 1, {"a": [{1}]}, config={})
    for leaf, dtype in ((np.asarray(["b"]), "<U1"), (jax.random.key(0), "key<fry>")):
        with pytest.raises(TypeError, match=rf"^tree: a is {dtype}; needs arrays"):
            checkpoint.save(tmp_path, 1, {"a": leaf}, config={})
    with pytest.raises(ValueError, match=r"^tree: two leaves have the same path"):
        checkpoint.save(tmp_path, 1, {"a.b": jnp.ones(1), "a": {"b": jnp.ones(1)}}, config={})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"^checkpoint: .*/step-000000001.npz could not be written: .*(exist|direct)"):
        checkpoint.save(tmp_path / "file", 1, {"a": jnp.ones(2)}, config={})


def test_the_error_of_the_writer_comes_at_the_next_save_and_the_one_after_works(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("in the way")
    tree = {"a": jnp.ones(2)}
    with checkpoint.saver(tmp_path / "kept", config={}) as save:
        save(1, tree)
        with pytest.raises(OSError, match=r"step-000000001.npz could not be written"):
            save(2, tree)
        (tmp_path / "kept").unlink()
        save(3, tree)
    assert checkpoint.steps(tmp_path / "kept") == [3]


@pytest.mark.exhaustive
def test_importing_it_loads_nothing_slow() -> None:
    imported = "funcgrad.training.checkpoint, funcgrad.training.saved_model"
    code = f"import sys, {imported}; print({{'safetensors'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Processes

WRITER = """
import sys
import jax.numpy as jnp, numpy as np
from funcgrad.training import checkpoint

folder, megabytes, keep, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
like = {"a": np.zeros(megabytes * 250_000, np.float32), "b": jnp.zeros(3), "history": {}}
found = checkpoint.restore(folder, like)
step = found.step if found else 0
if found:
    assert np.all(found.tree["a"] == step) and found.tree["history"]["loss"] == list(range(step + 1)), step
    assert not found.notes, found.notes
print("from", step, flush=True)
with checkpoint.saver(folder, config={}, keep=keep) as save:
    while True:
        step += 1
        if step == limit:
            import resource
            resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        tree = {"a": np.full_like(like["a"], step), "b": jnp.ones(3), "history": {"loss": list(range(step + 1))}}
        save(step, tree)
"""


@pytest.mark.exhaustive
def test_a_process_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """Twelve times: it goes on from what the one before left, writes without pause, and is killed."""
    rng, before, folder = random.Random(0), 0, tmp_path / "kept"
    interrupted = 0
    for _ in range(12):
        command = [sys.executable, "-c", WRITER, str(folder), "16", "2", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            line = writer.stdout.readline()
            time.sleep(rng.uniform(0, 1.5))
            writer.kill()
            writer.wait()
            assert line.startswith("from "), writer.communicate()[1]
        assert int(line.split()[1]) >= before, "a checkpoint that had been whole was lost"
        steps = checkpoint.steps(folder)
        before = steps[-1] if steps else 0
        interrupted += bool(list(folder.glob(".step-*")))
    assert before > 12
    assert interrupted > 0
    like = {"a": np.zeros(4_000_000, np.float32), "b": jnp.zeros(3), "history": {}}
    restored = found(folder, like)
    assert (restored.step, restored.notes) == (before, ())
    checkpoint.save(folder, before + 1, like, config={}, keep=2)
    assert len(list(folder.iterdir())) == 2, "leftovers"


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of file sizes")
def test_a_full_disk_is_an_error_and_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    """A limit of the size of files stands for the disk: writing fails in the same way."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "kept"), "2", "2", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    failed = re.search(r"^OSError: checkpoint: .*/step-(\d+).npz could not be written: .*large.*$", done.stderr, re.M)
    assert failed, done.stderr
    step = int(failed[1])
    assert step in (3, 4)  # the third may still have been under way when the limit came
    assert checkpoint.steps(tmp_path / "kept") == [step - 2, step - 1]
    like = {"a": np.zeros(500_000, np.float32), "b": jnp.zeros(3), "history": {}}
    assert found(tmp_path / "kept", like).step == step - 1
    checkpoint.save(tmp_path / "kept", step, like, config={}, keep=2)
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == [f"step-{number:09}.npz" for number in (step - 1, step)], "leftovers"


TWO = """
import sys
import jax, jax.numpy as jnp, numpy as np
from funcgrad.training import checkpoint

address, rank, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(address, num_processes=2, process_id=rank)
mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))

def place(x, spec):
    return jax.make_array_from_callback(x.shape, jax.NamedSharding(mesh, spec), lambda index: x[index])

key_data = jax.random.key_data(jax.random.key(7))
tree = {"a": place(np.arange(6.0, dtype=np.float32), jax.P()), "key": place(key_data, jax.P()), "epoch": 3}
with checkpoint.saver(folder, config={}) as save:
    save(1, tree)
    save(2, tree)
jax.experimental.multihost_utils.sync_global_devices("saved")
found = checkpoint.restore(folder, tree, config={})
assert found.step == 2 and found.tree["epoch"] == 3
assert found.tree["a"].sharding == tree["a"].sharding
assert np.asarray(found.tree["a"]).tolist() == [0, 1, 2, 3, 4, 5]
assert np.asarray(found.tree["key"]).tolist() == [0, 7]
if rank == 0:
    try:
        checkpoint.save(folder, 3, {"rows": place(np.arange(4.0, dtype=np.float32), jax.P("rows"))}, config={})
        raise SystemExit("an array in pieces was saved")
    except ValueError as error:
        assert "tree: rows is spread over several processes" in str(error), error
jax.experimental.multihost_utils.sync_global_devices("done")
print("fine")
"""


@pytest.mark.exhaustive
def test_of_two_processes_one_writes_and_both_read(tmp_path: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", "import jax.experimental.multihost_utils" + TWO, address, str(rank), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            output, errors = process.communicate(timeout=120)
            assert output.strip().endswith("fine"), errors
    finally:
        for process in processes:
            process.kill()
    assert checkpoint.steps(tmp_path) == [1, 2]
