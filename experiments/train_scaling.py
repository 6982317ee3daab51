"""What do more devices and a second process cost, or gain, in training, and do they learn the same?

    python experiments/train_scaling.py    # a minute on 2 cores

A network 3072-256-10 on random images of CIFAR-10's shape, momentum, batches of 256, over 1, 2, 4 and 8 devices that
share each batch, and by two processes connected by gloo. Each measurement has processes of its own, compiles
apart, and takes the median of five epochs. On CPU the devices are virtual: they share the same cores, so the ratio to
one device shows what sharing costs; real devices show what it gains.

Expected: every epoch has the loss that it has on one device, to one part in 10⁴, or the run fails. On CPU, sharing a
batch costs: 0.3 to 0.9 × the images/s of one device.
"""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from knn_scaling import measured, real_devices

RESULTS = Path(__file__).parent / "results" / "train_scaling.json"
IMAGES, BATCH, EPOCHS, HIDDEN, CLASSES = 10_240, 256, 6, 256, 10
ROUNDING = 1e-4  # relative
WAYS = ((1, 1), (2, 1), (4, 1), (8, 1), (1, 2))  # devices each, processes


def one_measurement(devices: int, processes: int, address: str, process: int) -> dict[str, Any]:
    """Seconds of the median epoch, and the loss of each, in this process, which has `devices` of all devices."""
    import jax
    import numpy as np

    from funcgrad import losses, models, report, sharding, training

    if processes > 1:
        sharding.start(address, processes, process)
    one = devices == processes == 1
    mesh = None if one else sharding.make_mesh(devices * processes)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    labels = rng.integers(0, CLASSES, IMAGES)
    model = models.standardized(models.mlp((HIDDEN,), CLASSES), *models.mean_and_deviation(images))
    ends: list[float] = []
    seconds: dict[str, float] = {}
    with report.timed(seconds):
        fitted = training.fit(
            jax.random.key(0),
            model,
            images,
            labels,
            loss=losses.make_loss("softmax"),
            optimizer=training.make_optimizer("momentum", 1e-3),
            epochs=EPOCHS,
            batch_size=BATCH,
            mesh=mesh,
            on_epoch=lambda *_: ends.append(time.perf_counter()),
        )
    return {
        "platform": jax.default_backend(),
        "seconds": median(after - before for before, after in pairwise(ends)),  # the first epoch compiles
        "compile": seconds["compile"],
        "losses": fitted.history["train_loss"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=5, metavar=("DEVICES", "PROCESSES", "SHARES", "ADDRESS", "PROCESS"))
    one = parser.parse_args().one
    if one:
        devices, processes, _, address, process = one
        print("\n" + json.dumps(one_measurement(int(devices), int(processes), address, int(process))), flush=True)
        return
    from funcgrad import report

    available = real_devices()
    rows: list[dict[str, Any]] = []
    expected: list[float] = []
    for devices, processes in WAYS:
        if available is not None and devices * processes > available:
            continue
        outputs = measured(__file__, devices, processes, 1)
        expected = expected or outputs[0]["losses"]
        row: dict[str, Any] = {"processes": processes, "devices_each": devices}
        pairs = [pair for each in outputs for pair in zip(each["losses"], expected, strict=True)]
        furthest = max(abs(loss / other - 1) for loss, other in pairs)
        if not furthest <= ROUNDING:
            raise SystemExit(f"{row}: the losses are not those of one device, {furthest:.1e} apart")
        speed = IMAGES / max(x["seconds"] for x in outputs)
        row |= {
            "images_per_second": speed,
            "times_one_device": speed / rows[0]["images_per_second"] if rows else 1.0,
            "compile_seconds": max(x["compile"] for x in outputs),
            "furthest_loss": furthest,
        }
        rows.append(row)
        print(
            f"{processes} × {devices} devices: {speed:,.0f} images/s, "
            f"{row['times_one_device']:.2f} × one device; losses within {furthest:.1e}",
            flush=True,
        )
    results = {
        "network": [3 * 32 * 32, HIDDEN, CLASSES],
        "images": IMAGES,
        "batch_size": BATCH,
        "epochs": EPOCHS,
        "losses": expected,
        "devices": "virtual, on the same cores" if available is None else "real",
        "rows": rows,
        "environment": report.environment(),
    }
    report.write_json(RESULTS, results)


if __name__ == "__main__":
    main()
