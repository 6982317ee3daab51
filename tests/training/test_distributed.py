"""Two processes train what one trains, up to the order of sums. Run as a program, this file is one of the two.

Each check is a function of a folder that both share; both call it at the same time, with the whole data in each.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental.multihost_utils import process_allgather
from two_processes import checked_in_both, run_checks

from funcgrad import losses, models, sharding, training
from funcgrad.training import Checkpoint, Fit, Tuning, checkpoint

COUNT, EPOCHS, BATCH, STEPS = 61, 3, 12, 6
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(COUNT, 6)).astype(np.float32)
LABELS = (INPUTS[:, :2].sum(axis=1) > 0) + (INPUTS[:, 2] > 0.5).astype(np.int64)
RECIPE: dict[str, Any] = {
    "model": models.mlp((8,), 3, dropout=0.2),
    "loss": losses.make_loss("softmax", l2=0.01),
    "optimizer": training.make_optimizer("momentum", 0.1, schedule="cosine", steps=EPOCHS * STEPS),
    "validation": (INPUTS[:20] + np.float32(0.1), LABELS[:20]),
}


def train(**changes: Any) -> Fit:
    options = {**RECIPE, "inputs": INPUTS, "labels": LABELS, "epochs": EPOCHS, "batch_size": BATCH} | changes
    return training.fit(jax.random.key(0), **options)


def assert_nearly_same(found: Fit, expected: Fit) -> None:
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    for name in ("params", "best_params"):
        jax.tree.map(close, getattr(found, name), getattr(expected, name))
    assert found.history.keys() == expected.history.keys()
    for name, values in found.history.items():
        close(values, expected.history[name], err_msg=name)


def digest(fitted: Fit) -> np.ndarray:
    """All numbers of a training, as both processes have them."""
    arrays = [np.asarray(x).ravel() for x in jax.tree.leaves((fitted.params, fitted.best_params))]
    return np.concatenate([*arrays, *(fitted.history[name] for name in sorted(fitted.history))]).astype(np.float32)


def assert_same_bits(found: Fit, expected: Fit) -> None:
    assert digest(found).tobytes() == digest(expected).tobytes()


def assert_alike_in_both(fitted: Fit) -> None:
    ours, others = process_allgather(digest(fitted))
    assert ours.tobytes() == others.tobytes()


def losses_are_those_of_one_process(folder: Path) -> None:
    fitted = train(mesh=sharding.make_mesh())
    assert fitted.stopped_by == "epochs"
    assert_nearly_same(fitted, train())
    assert_alike_in_both(fitted)


def what_was_trained_predicts_in_each(folder: Path) -> None:
    fitted, alone = train(mesh=sharding.make_mesh()), train()
    scores, expected = (training.predict(RECIPE["model"], x.best_params, INPUTS) for x in (fitted, alone))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def the_first_writes_and_both_go_on_to_the_same_bits(folder: Path) -> None:
    mesh = sharding.make_mesh()
    expected = train(mesh=mesh)
    own = folder / f"of-{jax.process_index()}"
    assert_same_bits(train(mesh=mesh, checkpoint=Checkpoint(own)), expected)
    assert checkpoint.steps(own) == ([6, 12, 18] if jax.process_index() == 0 else [])
    assert own.exists() == (jax.process_index() == 0)
    shared = Checkpoint(folder / "of-0", resume=True)
    assert_same_bits(train(mesh=mesh, checkpoint=shared), expected)  # which was over


def folders_that_differ_are_refused(folder: Path) -> None:
    own, mesh = folder / f"of-{jax.process_index()}", sharding.make_mesh()
    train(mesh=mesh, checkpoint=Checkpoint(own))
    with pytest.raises(
        ValueError, match=r"^checkpoint: the processes found steps 0 to 18; all of them have to see the"
    ):
        train(mesh=mesh, checkpoint=Checkpoint(own, resume=True))


def a_stop_in_one_stops_both(folder: Path) -> None:
    mesh = sharding.make_mesh()
    kept = Checkpoint(folder / "kept", resume=True)
    for count, process in ((2, 1), (5, 0), (1, 1)):
        asked: list[int] = []

        def stop(asked: list[int] = asked, count: int = count, process: int = process) -> bool:
            asked.append(1)
            return jax.process_index() == process and len(asked) == count

        stopped = train(mesh=mesh, checkpoint=kept, should_stop=stop, tuning=Tuning(poll_seconds=0.0))
        assert stopped.stopped_by == "interrupt"
        assert len(asked) == count
    assert checkpoint.steps(folder / "kept")[-1] == 8
    assert_same_bits(train(mesh=mesh, checkpoint=kept), train(mesh=mesh))


def one_that_is_slow_does_the_same_steps(folder: Path) -> None:
    told: list[int] = []
    tuning = Tuning(poll_seconds=0.01 + 10 * jax.process_index())  # each alone would poll after other numbers of steps
    pause = 0.02 * jax.process_index()
    fitted = train(
        mesh=sharding.make_mesh(),
        should_stop=lambda: time.sleep(pause),
        on_steps=lambda done, *_: told.append(done),
        tuning=tuning,
    )
    assert_nearly_same(fitted, train())
    padded = np.array([*told, *[0] * (EPOCHS * STEPS - len(told))])
    ours, others = process_allgather(padded)
    np.testing.assert_array_equal(ours, others)


def checkpoints_come_at_the_same_epochs(folder: Path) -> None:
    seconds = 0.0 if jax.process_index() else 3600.0
    mesh = sharding.make_mesh()
    fitted = train(mesh=mesh, checkpoint=Checkpoint(folder / "kept", seconds=seconds))
    assert_same_bits(fitted, train(mesh=mesh))


def both_stream_to_the_same_bits(folder: Path) -> None:
    mesh = sharding.make_mesh()
    streamed = train(mesh=mesh, stream=True, tuning=Tuning(chunk_bytes=4 * BATCH * INPUTS[0].nbytes))
    assert_same_bits(streamed, train(mesh=mesh, stream=False))


def batches_that_all_devices_cannot_share_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="batch_size: needs a multiple of the 4 devices that share it, got 10"):
        train(mesh=sharding.make_mesh(), batch_size=10)


CHECKS: dict[str, Callable[[Path], None]] = {
    check.__name__.replace("_", " "): check
    for check in (
        losses_are_those_of_one_process,
        what_was_trained_predicts_in_each,
        the_first_writes_and_both_go_on_to_the_same_bits,
        folders_that_differ_are_refused,
        a_stop_in_one_stops_both,
        one_that_is_slow_does_the_same_steps,
        checkpoints_come_at_the_same_epochs,
        both_stream_to_the_same_bits,
        batches_that_all_devices_cannot_share_are_refused,
    )
}


@pytest.mark.exhaustive
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    passed = dict.fromkeys(CHECKS, "passed")
    assert checked_in_both(__file__, tmp_path) == [passed, passed]


if __name__ == "__main__":
    run_checks(CHECKS, *sys.argv[1:])
