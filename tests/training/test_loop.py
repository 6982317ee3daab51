"""A training that is stopped, killed, streamed or split over devices is the training that ran through.

Run as a program, this file kills itself again and again: see `killed_again_and_again`.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad import models, sharding
from funcgrad.files import DifferentRun
from funcgrad.losses import make_loss
from funcgrad.models import Model
from funcgrad.training import Checkpoint, Fit, Tuning, augment, batches, checkpoint, fit, steps
from funcgrad.training.optimizers import make_optimizer

pytestmark = pytest.mark.optimized

# Nothing here computes with JAX when it is imported: a process that has may not be forked.
COUNT, EPOCHS, BATCH = 37, 3, 12
STEPS = 4  # an epoch: three whole batches, and one of a single example
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(COUNT, 4, 3)).astype(np.float32)
LABELS = (IMAGES[:, 0].sum(axis=1) > 0) + (IMAGES[:, 1, 1] > 0.5).astype(np.int64)
SOFTMAX = make_loss("softmax", l2=0.01)
PLAIN: dict[str, Any] = {"model": models.linear(3), "loss": SOFTMAX, "optimizer": make_optimizer("adam", 0.03)}
FULL: dict[str, Any] = {  # all that draws or remembers
    "model": models.mlp((8,), 3, dropout=0.3),
    "loss": SOFTMAX,
    "optimizer": make_optimizer("adam", 0.03, schedule="cosine", steps=EPOCHS * STEPS, warmup_steps=3),
    "augment": augment.make_augment("flip,shift:1"),
    "mix": augment.mixup,
    "validation": (IMAGES[::-1][:11] + np.float32(0.1), LABELS[::-1][:11]),
}
RECIPES = [pytest.param(PLAIN, id="plain"), pytest.param(FULL, id="full", marks=pytest.mark.exhaustive)]
every_recipe = pytest.mark.parametrize("recipe", RECIPES)


def train(**changes: Any) -> Fit:
    options = {**PLAIN, "inputs": IMAGES, "labels": LABELS, "epochs": EPOCHS, "batch_size": BATCH} | changes
    return fit(jax.random.key(0), **options)


def with_nan(row: int) -> np.ndarray:
    return np.where(np.arange(COUNT)[:, None, None] == row, np.float32(np.nan), IMAGES)


def stopping(after: int) -> Callable[[], bool]:
    """A `should_stop` that says so when it is asked for this time."""
    answers = iter([*[False] * (after - 1), True])
    return lambda: next(answers)


def assert_same_training(found: Fit, expected: Fit) -> None:
    """Parameters, best parameters and history, to the bit."""
    for name in ("params", "best_params"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert jax.tree.structure(ours) == jax.tree.structure(theirs)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert a.dtype == b.dtype
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert found.history == expected.history
    assert (found.epochs_done, found.stopped_by) == (expected.epochs_done, expected.stopped_by)


def assert_nearly_same_training(found: Fit, expected: Fit) -> None:
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, found.params, expected.params)
    jax.tree.map(close, found.best_params, expected.best_params)
    assert found.history.keys() == expected.history.keys()
    for name, values in found.history.items():
        close(values, expected.history[name], err_msg=name)


EVERY_STEP = Tuning(poll_seconds=0.0)  # `on_steps` and `should_stop` are called after every step


def stopped_and_resumed_after_every_step(folder: Path, **changes: Any) -> Fit:
    """One call of `fit` for each step."""
    for step in range(1, EPOCHS * STEPS + 1):
        kept = Checkpoint(folder, resume=True)
        fitted = train(**{"tuning": EVERY_STEP, **changes}, checkpoint=kept, should_stop=lambda: True)
        assert (fitted.stopped_by, fitted.epochs_done) == ("interrupt", step // STEPS)
        assert checkpoint.steps(folder)[-1] == step
    return train(**changes, checkpoint=Checkpoint(folder, resume=True), should_stop=lambda: True)


# Checkpoints


@pytest.mark.exhaustive
@pytest.mark.parametrize("after", [1, 3, 4, 6, 12])
def test_a_training_stopped_at_any_step_goes_on_to_the_same_bits(after: int, tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path / "kept", resume=True)
    stopped = train(checkpoint=kept, should_stop=stopping(after), tuning=EVERY_STEP)
    assert (stopped.stopped_by, stopped.epochs_done) == ("interrupt", after // STEPS)
    assert checkpoint.steps(tmp_path / "kept")[-1] == after
    assert_same_training(train(checkpoint=kept), train())


@pytest.mark.exhaustive
def test_a_training_that_stops_after_every_step_comes_to_the_same_bits(tmp_path: Path) -> None:
    assert_same_training(stopped_and_resumed_after_every_step(tmp_path, **FULL), train(**FULL))


def test_checkpoints_change_nothing_and_come_as_often_as_asked(tmp_path: Path) -> None:
    expected = train(epochs=5)
    for every, keep, kept in ((2, None, [8, 16, 20]), (1, 2, [16, 20]), (7, 3, [20])):
        fitted = train(
            epochs=5, checkpoint=Checkpoint(tmp_path, every=every, keep=keep)
        )  # those of the one before are removed
        assert_same_training(fitted, expected)
        assert checkpoint.steps(tmp_path) == kept


def test_a_training_that_is_over_is_given_back_as_it_was(tmp_path: Path) -> None:
    first = train(checkpoint=Checkpoint(tmp_path))
    told: list[int] = []
    again = train(checkpoint=Checkpoint(tmp_path, resume=True), on_epoch=lambda number, _: told.append(number))
    assert_same_training(again, first)
    assert told == []


@pytest.mark.exhaustive
def test_equal_settings_share_one_program() -> None:
    """Built anew, as by whoever runs a cell of a notebook again."""

    def recipe() -> dict[str, Any]:
        model = models.standardized(
            models.in_dtype(models.mlp([8], 3, dropout=0.2), "float32"), [90.0], [np.float32(70)]
        )
        optimizer = make_optimizer("adamw", 0.01, schedule="cosine", steps=12, weight_decay=0.1, clip_norm=1.0)
        loss = make_loss("softmax", l2=0.01, smoothing=0.1)
        return {"model": model, "loss": loss, "optimizer": optimizer, "augment": augment.make_augment("flip,shift:1")}

    first = train(**recipe())
    compiled = steps.run_steps._cache_size()
    assert_same_training(train(**recipe()), first)
    assert steps.run_steps._cache_size() == compiled
    assert recipe() == recipe()
    assert make_optimizer("sgd", 0.1) != make_optimizer("sgd", np.float64(0.1))  # which is no weak type


def test_nothing_to_resume_is_a_beginning(tmp_path: Path) -> None:
    assert_same_training(train(checkpoint=Checkpoint(tmp_path / "none", resume=True)), train())


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"batch_size": 10}, "batch size 12 and not 10"),
        ({"epochs": 4}, "epochs 3 and not 4"),
        ({"inputs": IMAGES[:-1], "labels": LABELS[:-1]}, "examples 37 and not 36"),
        ({"config": {"learning_rate": 0.2}}, "learning rate 0.1 and not 0.2"),
    ],
    ids=["batch size", "epochs", "examples", "the caller's"],
)
def test_a_checkpoint_of_another_training_is_refused(changes: dict, difference: str, tmp_path: Path) -> None:
    train(checkpoint=Checkpoint(tmp_path, config={"learning_rate": 0.1}))
    changes = {"config": {"learning_rate": 0.1}, **changes}
    kept = Checkpoint(tmp_path, resume=True, config=changes.pop("config"))
    with pytest.raises(DifferentRun, match=rf"^checkpoint: step 12 in .* was saved with {difference}$"):
        train(**changes, checkpoint=kept)
    assert checkpoint.steps(tmp_path) == [4, 8, 12]


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    train(checkpoint=Checkpoint(tmp_path))
    with pytest.raises(ValueError, match=r"has another tree: .*bias float32\[3\] and not float32\[4\]"):
        train(model=models.linear(4), checkpoint=Checkpoint(tmp_path, resume=True))


@every_recipe
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(recipe: dict[str, Any], tmp_path: Path) -> None:
    expected = train(**recipe, checkpoint=Checkpoint(tmp_path))
    damaged = tmp_path / "step-000000012.npz"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    resumed = train(**recipe, checkpoint=Checkpoint(tmp_path, resume=True))
    assert_same_training(resumed, expected)
    (note,) = resumed.notes
    assert note.startswith(f"checkpoint: step 12 in {tmp_path} is damaged and not used: ")
    assert_same_training(train(**recipe, checkpoint=Checkpoint(tmp_path, resume=True)), expected)  # and was replaced


@pytest.mark.exhaustive
def test_a_training_that_diverges_keeps_what_was_good(tmp_path: Path) -> None:
    def after_two_epochs(scores: jax.Array, label: jax.Array, params: Any) -> jax.Array:
        return jnp.sum(params) * jnp.where(params[0] > -8.5, 1.0, jnp.nan)  # each step takes 1 from each parameter

    counting = Model(lambda key, shape: jnp.zeros(3), lambda params, x, *, key=None: params)
    recipe = {"model": counting, "loss": after_two_epochs, "optimizer": make_optimizer("sgd", 1.0)}
    fitted = train(**recipe, checkpoint=Checkpoint(tmp_path))
    assert (fitted.stopped_by, fitted.epochs_done) == ("diverged", 2)
    assert fitted.notes == ("epoch 3, step 2: the loss is not finite",)
    assert checkpoint.steps(tmp_path) == [4, 8]
    again = train(**recipe, checkpoint=Checkpoint(tmp_path, resume=True))
    assert (again.stopped_by, again.epochs_done, again.notes) == ("diverged", 2, fitted.notes)


def test_a_checkpoint_that_cannot_be_written_ends_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"^checkpoint: .*step-000000004.npz could not be written"):
        train(checkpoint=Checkpoint(tmp_path / "file"))


# Killed

KILLS, LONG = 20, 160  # a killed training takes few epochs
DROPPING = {**PLAIN, "model": models.mlp((8,), 3, dropout=0.3), "validation": FULL["validation"]}


def a_long_training(folder: Path | None, epochs: int = LONG, **options: Any) -> Fit:
    kept = None if folder is None else Checkpoint(folder, keep=2, resume=True)
    return train(**DROPPING, epochs=epochs, checkpoint=kept, **options)


def in_a_fork(run: Callable[[], Any]) -> int:
    """The number of a process that does this and ends."""
    child = os.fork()
    if child:
        return child
    run()
    os._exit(0)


def killed_at_a_file(folder: Path, number: int, *, renamed: bool) -> None:
    """Kills this process when its code touches, or renames, a file of the checkpoints for the so manieth time."""
    left = iter(range(number))

    def hook(event: str, arguments: tuple) -> None:
        touches = event == "os.rename" if renamed else event == "open" or event.startswith(("os.", "shutil."))
        if touches and str(folder) in str(arguments[:1]) and next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def killed_again_and_again(folder: Path) -> None:
    """Trains in forked processes, each of which goes on from what the one before left, and is killed.

    A fourth of them die at a file of their checkpoints, most of these before it is renamed; some die shortly after
    their beginning, the others at any time from their first epoch on, half of these with pauses between writes. The
    last runs to the end, and has the bits of one that ran through.
    """
    rng, newest, unfinished = random.Random(0), 0, 0
    jax.config.update("jax_compilation_cache_dir", f"{folder}-compiled")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    first = Path(f"{folder}-first")
    for _ in range(2):  # compiles what a first and what a later one needs
        assert os.waitpid(in_a_fork(lambda: a_long_training(first, should_stop=stopping(3))), 0)[1] == 0
    for number in range(KILLS):
        reads, writes = os.pipe()

        def run(number: int = number, writes: int = writes, file: int = rng.randrange(50)) -> None:
            if number % 4 == 0:
                killed_at_a_file(folder, file // 10 if number % 8 == 0 else file, renamed=number % 8 == 0)
            pause = 0.3 if number % 2 else 0.0
            told, paused = lambda *_: os.write(writes, b".") and None, lambda: time.sleep(pause)
            a_long_training(folder, on_epoch=told, should_stop=paused)

        began, child = time.time(), in_a_fork(run)
        os.close(writes)
        if number % 4 == 0:
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        elif number % 8 == 1:
            time.sleep(rng.uniform(0, 1))
        else:
            for _ in range(rng.randint(1, 4)):
                os.read(reads, 1)
            time.sleep(rng.uniform(0, 0.6 if number % 2 else 0.1))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(reads)
        assert os.WIFSIGNALED(status), f"kill {number}: the training ended with {status}"
        assert os.WTERMSIG(status) == signal.SIGKILL
        before, newest = newest, max(checkpoint.steps(folder), default=0)
        assert before <= newest < LONG * STEPS, (before, newest)
        unfinished += any(path.stat().st_mtime > began for path in folder.glob(".step-*"))
    assert newest >= 10 * STEPS
    assert 3 <= unfinished <= KILLS - 3, unfinished  # killed during a write, and before or after one
    resumed = a_long_training(folder)
    assert resumed.notes == ()
    assert_same_training(resumed, a_long_training(None))
    print(f"the same bits after {KILLS} kills, {unfinished} of them during a write")


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_training_killed_again_and_again_comes_to_the_same_bits(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", __file__, str(tmp_path / "kept")]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"the same bits after {KILLS} kills")


# Streaming


CHUNKED = Tuning(chunk_bytes=3 * BATCH * IMAGES[0].nbytes)  # three steps a chunk


def mapped(folder: Path) -> np.ndarray:
    np.save(folder / "images.npy", IMAGES)
    return np.load(folder / "images.npy", mmap_mode="r")


def test_chunks_hold_the_examples_of_an_epoch_in_its_order() -> None:
    weights = np.arange(COUNT, dtype=np.float32)
    key_data = np.asarray(jax.random.key_data(jax.random.key(3)))
    order = np.asarray(steps.order_of(key_data, 5, COUNT, BATCH))
    examples = steps.Examples(IMAGES, LABELS, weights)
    source = batches.make_source(examples, BATCH, mesh=None, stream=True, tuning=CHUNKED)
    for first, spans in ((0, [(0, 3), (3, 4)]), (2, [(0, 3), (3, 4)]), (3, [(3, 4)])):
        chunks = list(batches.chunks(source, key_data, 5, first))
        assert [(x.first, x.stop) for x in chunks] == spans
        for chunk in chunks:
            here = order[chunk.first : chunk.stop]
            rows = np.asarray(chunk.order)[: len(here)]
            assert len(chunk.examples.inputs) == 3 * BATCH
            np.testing.assert_array_equal(rows < 0, here < 0)
            for ours, all_of_them in zip(chunk.examples, (IMAGES, LABELS, weights), strict=True):
                np.testing.assert_array_equal(np.asarray(ours)[rows], all_of_them[here])


@pytest.mark.exhaustive
@every_recipe
@pytest.mark.parametrize(
    "source", [lambda _: IMAGES, mapped, lambda _: jnp.asarray(IMAGES)], ids=["numpy", "memmap", "jax"]
)
def test_streamed_inputs_train_to_the_same_bits(source: Callable, recipe: dict[str, Any], tmp_path: Path) -> None:
    assert_same_training(
        train(**recipe | {"inputs": source(tmp_path)}, stream=True, tuning=CHUNKED), train(**recipe, stream=False)
    )


@pytest.mark.exhaustive
def test_a_streamed_training_stopped_within_a_chunk_comes_to_the_same_bits(tmp_path: Path) -> None:
    streamed = {**FULL, "inputs": mapped(tmp_path), "stream": True}
    tuning = CHUNKED._replace(poll_seconds=0.0)
    found = stopped_and_resumed_after_every_step(tmp_path / "kept", **streamed, tuning=tuning)
    assert_same_training(found, train(**FULL))


def test_what_a_chunk_cannot_read_ends_the_training() -> None:
    class Broken(np.ndarray):
        def __getitem__(self, rows: Any) -> Any:
            if isinstance(rows, np.ndarray):
                raise OSError("the disk is gone")
            return super().__getitem__(rows)

    with pytest.raises(OSError, match="the disk is gone"):
        train(inputs=IMAGES.view(Broken), stream=True, tuning=CHUNKED)


# Devices

SPLIT = {**FULL, "optimizer": make_optimizer("momentum", 0.1, schedule="cosine", steps=EPOCHS * STEPS)}


@pytest.mark.parametrize("devices", [2, pytest.param(4, marks=pytest.mark.exhaustive)])
def test_devices_that_share_a_training_find_what_one_finds(devices: int) -> None:
    fitted = train(**SPLIT, mesh=sharding.make_mesh(devices))
    assert_nearly_same_training(fitted, train(**SPLIT))
    for array in jax.tree.leaves((fitted.params, fitted.best_params)):
        assert [x.data.shape for x in array.addressable_shards] == [array.shape] * devices


@pytest.mark.exhaustive
def test_a_training_of_several_devices_stops_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    options = {**SPLIT, "mesh": sharding.make_mesh(2), "tuning": EVERY_STEP}
    kept = Checkpoint(tmp_path, resume=True)
    for after in (2, 3, 3):
        assert train(**options, checkpoint=kept, should_stop=stopping(after)).stopped_by == "interrupt"
    assert checkpoint.steps(tmp_path)[-1] == 8
    assert_same_training(train(**options, checkpoint=kept), train(**options))


@pytest.mark.exhaustive
def test_several_devices_stream_to_the_same_bits() -> None:
    there = sharding.make_mesh(2)
    assert_same_training(train(mesh=there, stream=True, tuning=CHUNKED), train(mesh=there, stream=False))


def test_batches_that_devices_cannot_share_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^batch_size: needs a multiple of the 4 devices that share it, got 10$"):
        train(mesh=sharding.make_mesh(4), batch_size=10)


@pytest.mark.exhaustive
@pytest.mark.parametrize("batch_size", [COUNT, 1000])
def test_all_examples_as_one_batch_are_shared_by_any_number_of_devices(batch_size: int) -> None:
    assert_nearly_same_training(train(mesh=sharding.make_mesh(2), batch_size=batch_size), train(batch_size=COUNT))


# When it ends


def counting(right: tuple[int, ...]) -> dict[str, Any]:
    """A training whose one parameter counts its steps, each an epoch; after n it is right about right[n] of ten."""

    def apply(params: jax.Array, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        is_right = x < jnp.array(right)[jnp.rint(params).astype(int)]
        return jnp.where(is_right, jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0]))

    return {
        "model": Model(lambda key, shape: jnp.zeros(()), apply),
        "inputs": np.arange(10),
        "labels": np.ones(10, int),
        "loss": lambda scores, label, params: -params,
        "optimizer": make_optimizer("sgd", 1.0),
        "epochs": len(right) - 1,
        "validation": (np.arange(10), np.ones(10, int)),
    }


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("right", "patience", "epochs", "best"),
    [
        ((0, 3, 5, 5, 4, 9, 9), 2, 4, 2),  # what is as good as before is not better
        ((0, 3, 5, 5, 4, 9, 1), 3, 6, 5),
        ((0, 0, 0, 0), 1, 2, 1),
        ((0, 4, 3, 2, 1), 1, 2, 1),
        ((0, 1, 2, 3, 4), 1, 4, 4),
    ],
)
def test_patience_ends_a_training_after_so_many_epochs_without_a_rise(
    right: tuple[int, ...], patience: int, epochs: int, best: int, tmp_path: Path
) -> None:
    recipe = {**counting(right), "patience": patience}
    fitted = train(**recipe)
    assert fitted.epochs_done == epochs
    assert fitted.stopped_by == ("patience" if epochs < len(right) - 1 else "epochs")
    assert (round(float(fitted.params)), round(float(fitted.best_params))) == (epochs, best)
    for _ in range(epochs):  # how long it has waited is kept
        train(**recipe, checkpoint=Checkpoint(tmp_path, resume=True), should_stop=lambda: True)
    assert_same_training(train(**recipe, checkpoint=Checkpoint(tmp_path, resume=True)), fitted)


@pytest.mark.exhaustive
def test_every_look_is_told_the_steps_done_and_the_means_so_far() -> None:
    told: list[tuple[int, int, dict[str, float]]] = []
    fitted = train(on_steps=lambda *x: told.append(x), tuning=EVERY_STEP)
    assert [x[:2] for x in told] == [(number, EPOCHS * STEPS) for number in range(1, EPOCHS * STEPS + 1)]
    for name, values in fitted.history.items():
        assert [x[2][name] for x in told[STEPS - 1 :: STEPS]] == values


def test_on_steps_is_called_rarely_while_steps_are_fast() -> None:
    told: list[int] = []
    train(on_steps=lambda done, *_: told.append(done), tuning=Tuning(poll_seconds=1e6))
    assert told == [1, 4, 5, 8, 9, 12]


# Weights


@pytest.mark.exhaustive
def test_examples_of_weight_zero_are_as_left_out() -> None:
    weights = np.arange(COUNT) % 3 > 0
    kept = train(inputs=IMAGES[weights], labels=LABELS[weights], batch_size=COUNT)
    assert_nearly_same_training(train(weights=weights, batch_size=COUNT), kept)


@pytest.mark.exhaustive
def test_an_example_of_weight_two_is_as_two() -> None:
    twice = np.concatenate([np.arange(COUNT), np.arange(9)])
    weights = np.where(np.arange(COUNT) < 9, 2, 1)
    expected = train(inputs=IMAGES[twice], labels=LABELS[twice], batch_size=100)
    assert_nearly_same_training(train(weights=weights, batch_size=100), expected)


@pytest.mark.exhaustive
def test_weights_count_by_their_ratios_alone() -> None:
    weights = np.random.default_rng(1).uniform(0.5, 2, COUNT).astype(np.float32)
    expected = train(**FULL, weights=weights)
    assert_same_training(train(**FULL, weights=4 * weights), expected)  # exact: a power of two
    assert_same_training(train(**FULL, weights=np.ones(COUNT)), train(**FULL))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.ones(36)}, r"^weights: needs one for each of the 37 inputs, got shape \(36,\)$"),
        ({"weights": -np.ones(37)}, "^weights: needs finite numbers of at least 0, and one above 0$"),
        ({"weights": np.zeros(37)}, "^weights: needs finite numbers of at least 0, and one above 0$"),
        ({"inputs": with_nan(7)}, r"^inputs: needs finite numbers, row 7 has nan$"),
        ({"validation": (with_nan(3), LABELS)}, r"^validation inputs: needs finite numbers, row 3 has nan$"),
        ({"weights": np.full(37, np.nan)}, "^weights: needs finite numbers of at least 0, and one above 0$"),
        ({"patience": 2}, "^patience: needs validation inputs and labels to watch$"),
        ({"patience": 0, "validation": (IMAGES, LABELS)}, "^patience: must be at least 1, got 0$"),
        ({"checkpoint": Checkpoint("nowhere", every=0)}, "^every: must be at least 1, got 0$"),
        ({"checkpoint": Checkpoint("nowhere", keep=0)}, "^keep: must be at least 1, or None for all; got 0$"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(**changes)


def test_the_outcome_is_shown_in_one_line() -> None:
    fitted = train()
    assert repr(fitted) == (
        f"Fit(3 epochs, stopped_by='epochs', train_loss {fitted.history['train_loss'][-1]:.4g}, "
        f"train_accuracy {fitted.history['train_accuracy'][-1]:.4g}, 39 parameters)"
    )


# Mixing


def only_the_first(key: jax.Array, x: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x, jnp.ones(())


def only_the_other(key: jax.Array, x: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
    return other, jnp.zeros(())


@pytest.mark.exhaustive
def test_a_mix_of_the_first_alone_is_none() -> None:
    assert_nearly_same_training(train(mix=only_the_first), train())


@pytest.mark.exhaustive
def test_a_mix_of_the_other_alone_trains_on_the_others_and_their_labels() -> None:
    found, expected = (train(mix=mix, batch_size=COUNT) for mix in (only_the_other, None))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found.params, expected.params)
    np.testing.assert_allclose(found.history["train_loss"], expected.history["train_loss"], rtol=1e-5)


@pytest.mark.exhaustive
def test_a_gradient_of_mixed_images_is_that_of_the_plain_formula() -> None:
    keys = jax.random.split(jax.random.key(1), 5)
    batch = steps.Batch(jnp.asarray(IMAGES[:5]), jnp.asarray(LABELS[:5]), jnp.arange(5.0), keys)
    params = PLAIN["model"].init(jax.random.key(2), (4, 3))

    def plain(params: Any) -> jax.Array:
        total = jnp.zeros(())
        for number in range(5):
            before, key = (number - 1) % 5, jax.random.fold_in(jax.random.split(keys[number])[0], 1)
            image, share = augment.mixup(key, batch.inputs[number], batch.inputs[before])
            scores = PLAIN["model"].apply(params, image)
            own, other = (SOFTMAX(scores, batch.labels[x], params) for x in (number, before))
            total += number * (share * own + (1 - share) * other) / 10
        return total

    recipe = steps.Recipe(**PLAIN, mix=augment.mixup)
    found, (total, _) = steps.gradients(params, batch, recipe)
    value, expected = jax.value_and_grad(plain)(params)
    np.testing.assert_allclose(total / 10, value, rtol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), found, expected)


@pytest.mark.exhaustive
def test_steps_in_bfloat16_with_augmentation_and_mixing_lower_for_cpu_gpu_and_tpu() -> None:
    inner = models.in_dtype(models.mlp((8,), 3, dropout=0.3, layer_norm=True), "bfloat16")
    model = models.standardized(inner, np.full(3, 0.5), np.full(3, 2.0))
    chosen = {"model": model, "augment": augment.make_augment("flip,shift:1,cutout:2"), "mix": augment.mixup}
    recipe = steps.Recipe(**chosen, loss=SOFTMAX, optimizer=FULL["optimizer"])
    images = np.zeros((COUNT, 4, 3, 3), np.uint8)
    state = steps.init_state(jax.random.key(0), model, recipe.optimizer, images.shape[1:])
    key_data = jax.random.key_data(jax.random.key(0))
    examples = steps.Examples(images, LABELS.astype(np.int32), np.ones(COUNT, np.float32))
    order = steps.order_of(key_data, 1, COUNT, BATCH)
    span = steps.Span(*map(np.int32, (0, 0, STEPS)))
    arguments = (state, steps.zero_sums(), (key_data, np.int32(1)), examples, order, span)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    run = jax.jit(lambda *x: steps.run_steps(*x, recipe=recipe, nonfinite="stop"))
    exported = jax.export.export(run, platforms=("cpu", "cuda", "tpu"))(*shapes)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert "bf16" in exported.mlir_module()
    after = jax.tree.leaves((state, steps.zero_sums()))
    assert [(x.shape, x.dtype) for x in exported.out_avals] == [(x.shape, x.dtype) for x in after]


if __name__ == "__main__":
    killed_again_and_again(Path(sys.argv[1]))
