"""Writes the table of results in README and all of experiments/README.md, from the result files and docstrings.

python experiments/readme_table.py    # a second; --check writes nothing and fails if a file is out of date
"""

import argparse
import ast
import json
import sys
from pathlib import Path

EXPERIMENTS = Path(__file__).resolve().parent
README = EXPERIMENTS.parent / "README.md"
START, END = "<!-- results: made by experiments/readme_table.py -->\n", "<!-- end of results -->"

TRAINED = {  # script: which part of its results, and what that is
    "train_digits": {"linear": "linear softmax", "mlp": "{} hidden units"},
    "mlp_mnist": {"": "{} hidden units"},
    "linear_cifar10": {"softmax": "linear softmax", "svm": "linear multiclass SVM"},
    "mlp_cifar10": {"": "{} hidden units"},
    "mlp_augmented_cifar10": {"": "{} hidden units, augmented"},
}


def read(name: str) -> dict:
    return json.loads((EXPERIMENTS / "results" / f"{name}.json").read_text(encoding="utf-8"))


def accuracy_table() -> str:
    rows = []
    for row in read("knn_pixels")["rows"]:
        shares = ", ".join(f"{right / row['of']:.2%}" for right in row["right"])
        ks = ", ".join(map(str, row["ks"]))
        figures = f"{row['seconds']['run']:.0f} s, {row['times_scikit_learn']:.0f} × scikit-learn's speed"
        memory = f"{row['peak_gib_above_the_data']:.1f} GiB above the data"
        rows.append(
            (f"{row['data']}, k-NN {row['metric'].upper()}, k = {ks}", shares, f"{figures}; {memory}", "knn_pixels")
        )
    rows.append(crossval_row(read("knn_crossval")))
    rows += trained_rows()
    lines = ["| what | test accuracy | cost on two CPU cores | script |", "| --- | --- | --- | --- |"]
    lines += [f"| {what} | {share} | {cost} | [{name}]({name}.py) |" for what, share, cost, name in rows]
    return "\n".join(lines) + "\n"


def crossval_row(measured: dict) -> tuple[str, str, str, str]:
    course = measured["course"]
    mean, k = max(zip(course["mean"], course["k"], strict=True))
    bests = [f"CS231n's own L2 {mean:.1%} at k = {k}"]
    for metric in ("l1", "l2"):
        best = max((row for row in measured["rows"] if row["metric"] == metric), key=lambda row: row["mean"])
        bests.insert(0, f"{metric.upper()} {best['mean']:.1%} at k = {best['k']}")
    cost = f"{measured['seconds']['run']:.0f} s for {len(course['k'])} k and both metrics"
    compiled = f"compiled in {measured['seconds']['compile']:.0f} s"
    what = f"{measured['data']}, first {measured['images']:,} training images, k-NN, mean of 5 folds"
    return what, "; ".join(bests), f"{cost}, {compiled}", "knn_crossval"


def trained_rows() -> list[tuple[str, str, str, str]]:
    """The trainings, each the mean of its seeds."""
    rows = []
    for script, names in TRAINED.items():
        measured = read(script)
        for key, name in names.items():
            trained = measured[key] if key else measured
            what = f"{measured['data']}, {name.format(units(measured['settings']))}"
            rows.append((what, accuracy(trained), seconds(trained), script))
    return rows


def units(settings: dict) -> str:
    hidden = settings.get("hidden", [])
    return "-".join(map(str, hidden if isinstance(hidden, list) else [hidden]))


def accuracy(trained: dict) -> str:
    """The mean of the seeds, the lowest and the highest."""
    of_seeds = trained.get("test_accuracies", [])
    spread = f" ({len(of_seeds)} seeds: {min(of_seeds):.2%} to {max(of_seeds):.2%})" if len(of_seeds) > 1 else ""
    return f"{trained['test_accuracy']:.2%}{spread}"


def training_table() -> str:
    speed = read("train_speed")
    lines = ["| training | measured | against |", "| --- | --- | --- |"]
    for row in speed["steps"]:
        peers = ", ".join(f"{peer} {ratio:.{0 if ratio >= 10 else 2}f} ×" for peer, ratio in row["times"].items())
        lines.append(f"| {row['network']} | {row['images_per_second']['funcgrad']:,.0f} images/s | {peers} |")
    for row in speed["sweeps"]:
        alone = f"{row['times_one_setting']:.1f} × the time of one"
        search = f"GridSearchCV (scaled) {row['search']['times']:.0f} ×"
        lines.append(f"| {row['name']}: {row['settings']} settings at once | {alone} | {search} |")
    for row in speed["checkpoints"]:
        epoch = f"{row['network']}, an epoch of {row['seconds_per_epoch']:.1f} s"
        lines.append(f"| {epoch}, a checkpoint after each | {row['cost']:+.1%} | one without |")
    return "\n".join(lines) + "\n"


def autograd_table() -> str:
    speed = read("autograd_speed")
    by_hand = speed["expression"]["times_by_hand"]
    ours = by_hand["compiled"]
    ratios = [row["ratio"] for row in speed["operations"]]
    chain = speed["chain_of_1_000_000"]
    moons = read("micrograd_moons")
    difference, steps = moons["worst_gradient_difference"], moons["settings"]["steps"]
    mnist = read("micrograd_mnist")
    epochs = [mnist[name]["seconds"]["epoch"] for name in ("one_by_one", "by_columns")]
    million = read("gradcheck_million_jax_0.12")
    scaled_from, batch = mnist["one_by_one"]["images"], mnist["settings"]["batch"]
    in_c = [row["epoch"] for name, row in mnist["published"].items() if name.startswith("C by")]
    rows = [
        ("compiled, against the same by hand", f"{ours:.2f} × the time"),
        ("compiled, against jitted `jax.value_and_grad`", f"{by_hand['jax.jit'] / ours:.0f} × faster"),
        ("compiled, against micrograd", f"{by_hand['micrograd'] / ours:.0f} × faster"),
        ("compiled, against HIPS autograd", f"{by_hand['HIPS autograd'] / ours:.0f} × faster"),
        ("uncompiled, against micrograd", f"{by_hand['micrograd'] / by_hand['uncompiled']:.2f} × faster"),
        (
            "a step of its network on 100 points, against micrograd",
            f"{speed['network']['times_micrograd']:.0f} × faster",
        ),
        ("operations of value and gradient over the value's", f"{min(ratios):.1f} to {max(ratios):.1f}"),
        ("10,000 operations traced, compiled and run", f"{speed['compile_10_000_seconds']:.1f} s"),
        ("gradient of 1,000,000 operations, uncompiled", f"{chain['seconds']:.1f} s, {chain['gib']:.1f} GiB"),
        (f"its network's gradients over {steps} steps, against `jax.grad`", f"within {difference:.0e}"),
        (
            f"gradients of {million['distinct_programs']:,} random programs, against JAX {million['settings']['jax']}",
            f"{million['gradients']['all']:,} compared, {len(million['failures'])} beyond their tolerance",
        ),
        (
            "an epoch of its network 784-50-10 on MNIST, "
            f"image by image (of {scaled_from:,}, scaled) and by columns of {batch}",
            f"{epochs[0]:.0f} s and {epochs[1]:.0f} s; published {mnist['published']['interpreted']['epoch']:,} s, as "
            f"compiled C {min(in_c)} to {max(in_c)} s",
        ),
    ]
    lines = ["| micrograd's expression, value and gradient | measured |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {what} | {figure} |" for what, figure in rows)]) + "\n"


def search_table() -> str:
    speed = read("knn_speed")
    lines = ["| exact k-NN | 10⁹ element pairs a second | by all numbers | speed, against |", "| --- " * 4 + "|"]
    for row in speed["pixels"]:
        metric = row["metric"].upper() if row["metric"][0] == "l" else row["metric"]
        name = f"{speed['data']}, {metric} on {row['dtype']}"
        times = ", ".join(f"{peer} {ratio:.{0 if ratio >= 10 else 2}f} ×" for peer, ratio in row["times"].items())
        whole = f"{row['giga_pairs_per_second_of_all_numbers']:.0f}"
        lines.append(f"| {name} | {row['giga_pairs_per_second']:.0f} | {whole} | {times} |")
    million = speed["million"]
    ours, pairs = million["from_memory"], million["points"] * million["queries"] * million["dimensions"] / 1e9
    name = f"1,000,000 × {million['dimensions']} random directions, cosine, k = {million['k']}"
    peak = f"{ours['peak_gib_above_the_points']:.1f} GiB above the points"
    lines.append(f"| {name} |  | {pairs / ours['seconds']:.0f} | faiss {ours['times_faiss']:.2g} ×; {peak} |")
    mapped = million["memory_mapped"]["seconds"]
    share = f"{million['memory_mapped_speed']:.2g} × its speed from memory"
    lines.append(f"| the same from a memory-mapped file |  | {pairs / mapped:.0f} | {share} |")
    return "\n".join(lines) + "\n"


def gpu_table() -> str:
    measured, trained = read("knn_gpu"), read("mlp_gpu_cifar10")
    size = f"{measured['points']:,} × {measured['queries']:,}"
    lines = [f"| on one {measured['environment']['devices'][0]} | measured | speed, against |", "| --- | --- | --- |"]
    for row in measured["kernels"]:
        figures = f"{row['seconds'] * 1e3:.0f} ms, {row['tera_pairs_per_second']:.0f} · 10¹² element pairs a second"
        dtype = row["kernel"].removeprefix("l1_")
        lines.append(f"| kernel: L1 on {dtype}, {size} | {figures} | XLA {row['times_xla']:.1f} × |")
    for row in measured["searches"]:
        metric = row["metric"].upper() if row["metric"][0] == "l" else row["metric"]
        where = {"placed": "arrays on it", "from_numpy": "NumPy's"}
        times = [f"{row['seconds'][x] * 1e3:.0f} ms from {name}" for x, name in where.items() if x in row["seconds"]]
        name = f"exact k-NN: {measured['data']}, {metric} on {row['dtype']}"
        peer = f"PyTorch in float32 {row['times_torch']:.{0 if row['times_torch'] >= 10 else 2}f} ×"
        lines.append(f"| {name} | {', '.join(times)} | {peer} |")
    seen = f"{accuracy(trained)}, mean of {trained['settings']['views']} views"
    plain = sum(trained["test_accuracies_as_they_are"]) / len(trained["test_accuracies_as_they_are"])
    what = f"MLP: {trained['data']}, {units(trained['settings'])} hidden units, deformed"
    lines.append(f"| {what} | {seen}; {plain:.2%} of the images as they are | {seconds(trained)} |")
    return "\n".join(lines) + "\n"


def seconds(trained: dict) -> str:
    run, compiled = (f"{x:.{0 if x >= 10 else 1}f} s" for x in (trained["seconds"][k] for k in ("run", "compile")))
    return f"{run} to train, compiled in {compiled}"


def summary() -> str:
    """README's table: six results, each with what it is compared with."""
    pixels = next(x for x in read("knn_pixels")["rows"] if x["data"].startswith("CIFAR") and x["metric"] == "l1")
    speeds = {(x["metric"], x["dtype"]): x for x in read("knn_speed")["pixels"]}
    l1, l2 = speeds["l1", "uint8"], speeds["l2", "float32"]
    million = read("knn_speed")["million"]
    linear, augmented = read("linear_cifar10")["softmax"], read("mlp_augmented_cifar10")
    steps = next(x for x in read("train_speed")["steps"] if x["network"] == "linear")
    by_hand = read("autograd_speed")["expression"]["times_by_hand"]
    data, shape = pixels["data"], f"{million['points']:,} × {million['dimensions']}"
    share, time = f"{pixels['right'][0] / pixels['of']:.2%}", f"{pixels['seconds']['run']:.0f} s"
    milliseconds = [x["milliseconds_per_query"]["funcgrad"] for x in (l1, l2)]
    faiss, sklearn = ([x["times"][peer] for x in (l1, l2)] for peer in ("faiss", "scikit-learn"))
    rows = [
        (
            f"{data}, 1-NN by L1 on all pixels",
            f"{share} of {pixels['of']:,} test images, in {time}",
            f"scikit-learn {pixels['times_scikit_learn']:.0f} ×",
            ["knn_pixels"],
        ),
        (
            f"{data}, exact 10-NN by L1 on uint8 and L2 on float32",
            "{:.1f} and {:.1f} ms a query".format(*milliseconds),
            "FAISS {:.0f} × and {:.1f} ×, scikit-learn {:.0f} × and {:.0f} ×".format(*faiss, *sklearn),
            ["knn_speed"],
        ),
        (
            f"{shape} random directions, exact {million['k']}-NN by cosine",
            f"{1e3 * million['from_memory']['seconds'] / million['queries']:.0f} ms a query",
            f"FAISS {million['from_memory']['times_faiss']:.2f} ×",
            ["knn_speed"],
        ),
        (
            f"{data}, linear softmax",
            f"{accuracy(linear)}; {steps['images_per_second']['funcgrad']:,.0f} images/s",
            f"PyTorch {steps['times']['pytorch']:.1f} ×",
            ["linear_cifar10", "train_speed"],
        ),
        (
            f"{data}, MLP of {units(augmented['settings'])} units, augmented",
            f"{accuracy(augmented)}; {seconds(augmented)}",
            "",
            ["mlp_augmented_cifar10"],
        ),
        (
            "micrograd's expression, value and gradient, compiled",
            f"{by_hand['compiled']:.2f} × the time of hand-written Python",
            ", ".join(f"{peer} {by_hand[peer] / by_hand['compiled']:.0f} ×" for peer in ("micrograd", "jax.jit")),
            ["autograd_speed"],
        ),
    ]
    lines = ["| on two CPU cores | result | speed, against | script |", "| --- | --- | --- | --- |"]
    for what, result, peers, scripts in rows:
        links = ", ".join(f"[{name}](experiments/{name}.py)" for name in scripts)
        lines.append(f"| {what} | {result} | {peers} | {links} |")
    return "\n".join(lines) + "\n"


def index() -> str:
    """A row for each script, from its docstring: the first line, and a command with its time after the #."""
    lines = ["| script | question | command | time |", "| --- | --- | --- | --- |"]
    for path in sorted([*EXPERIMENTS.glob("*.py"), EXPERIMENTS / "gradbench" / "tool.py"]):
        name = path.relative_to(EXPERIMENTS).as_posix()
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        commands = [line.partition("#") for line in text.splitlines() if f"python experiments/{name}" in line]
        if not (text and commands and commands[0][2]):
            raise ValueError(f"{name}: its docstring needs a line `python experiments/{name}   # TIME`")
        command, _, time = commands[0]
        question = text.splitlines()[0].replace("|", "\\|")
        lines.append(f"| [{name.removesuffix('.py')}]({name}) | {question} | `{command.strip()}` | {time.strip()} |")
    return "\n".join(lines) + "\n"


SECTIONS = {
    "Test accuracy": (
        """
CIFAR-10 is a JPEG copy here (quality 75), so quote these figures with that note. Hyper-parameters were chosen on
held-out training images; the test set was measured once.
""",
        accuracy_table,
    ),
    "Exact search": (
        """
On two cores of an AMD EPYC of 2017, beside FAISS and scikit-learn in float32 ([knn_speed](knn_speed.py)). Images are
first projected to an eighth or a quarter as many numbers, which bound every distance from below; only points that the
bounds cannot exclude are measured. A pair counts whether it was read or not; beside it is the speed with all numbers
read. Random directions have no such projection. FAISS reads all numbers, and proves nothing about its rounding.
[knn_scaling](knn_scaling.py) measures [what splitting a search costs](results/knn_scaling.json).
""",
        search_table,
    ),
    "On a GPU": (
        """
With `pip install "jax[cuda13]"` ([knn_gpu](knn_gpu.py), [mlp_gpu_cifar10](mlp_gpu_cifar10.py)). PyTorch measures in
float32 and proves nothing; for floats much of funcgrad's time is the host's, which prepares the queries and measures
the last candidates in float64.
""",
        gpu_table,
    ),
    "Training": (
        """
Beside PyTorch and scikit-learn ([train_speed](train_speed.py)): one classifier, many settings at once, and an epoch
with a checkpoint. [train_scaling](train_scaling.py) measures [what several devices cost](results/train_scaling.json).
""",
        training_table,
    ),
    "Scalar derivatives": (
        """
On one core ([autograd_speed](autograd_speed.py), [micrograd_moons](micrograd_moons.py),
[micrograd_mnist](micrograd_mnist.py), [gradcheck_million](gradcheck_million.py)). [gradbench](gradbench/tool.py)
answers to GradBench's scalar evals.
""",
        autograd_table,
    ),
}
INTRODUCTION = """# Experiments

One script per question, with its expected result on top and its measurement in `results/`. This page is written by
`python experiments/readme_table.py` from these files.
"""


def page() -> str:
    sections = [f"## {heading}\n{text}\n{table()}" for heading, (text, table) in SECTIONS.items()]
    return "\n".join([INTRODUCTION, index(), *sections])


def main() -> int:
    parser = argparse.ArgumentParser(description="Writes the tables of results in README.md and experiments/README.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    check = parser.parse_args().check
    before, rest = README.read_text(encoding="utf-8").split(START)
    texts = {README: before + START + summary() + END + rest.split(END)[1], EXPERIMENTS / "README.md": page()}
    status = 0
    for path, text in texts.items():
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path.relative_to(README.parent)} is out of date; run experiments/readme_table.py")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
