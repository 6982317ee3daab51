"""Small archives in the original formats, prepared and read back; and all the ways in which that can go wrong."""

import gzip
import hashlib
import http.server
import io
import os
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core.download.checksums import UrlInfo

from funcgrad import datasets
from funcgrad.datasets.tfds_writer import RECIPES, Recipe

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
COUNTS = 50, 12
CIFAR10, *_ = RECIPES["cifar10"].files
MNIST = RECIPES["mnist"].files


def random_rows(seed: int, count: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, *shape), np.uint8), random.integers(0, 10, count, np.uint8)


CIFAR_TRAIN, CIFAR_TEST = random_rows(0, COUNTS[0], (32, 32, 3)), random_rows(1, COUNTS[1], (32, 32, 3))
MNIST_TRAIN, MNIST_TEST = random_rows(2, COUNTS[0], (28, 28, 1)), random_rows(3, COUNTS[1], (28, 28, 1))


def url_infos(*paths: Path, root: str = "http://127.0.0.1:1") -> dict[str, UrlInfo]:
    """The archives as the originals to be had below an address."""
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    infos = [UrlInfo(path.stat().st_size, digest, path.name) for path, digest in zip(paths, digests, strict=True)]
    return {f"{root}/{info.filename}": info for info in infos}


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def cifar_members() -> dict[str, bytes]:
    def rows(images: np.ndarray, labels: np.ndarray) -> bytes:
        planes = images.transpose(0, 3, 1, 2).reshape(len(labels), -1)
        return np.concatenate([labels[:, None], planes], axis=1).tobytes()

    batches = {
        f"data_batch_{i + 1}.bin": rows(CIFAR_TRAIN[0][i * 10 : i * 10 + 10], CIFAR_TRAIN[1][i * 10 : i * 10 + 10])
        for i in reversed(range(5))  # the order in the archive does not matter
    }
    files = batches | {"test_batch.bin": rows(*CIFAR_TEST), "batches.meta.txt": "\n".join([*NAMES, ""]).encode()}
    return {f"cifar-10-batches-bin/{name}": content for name, content in files.items()}


@pytest.fixture
def cifar10(tmp_path: Path) -> tuple[Path, Recipe]:
    path = write_tar(tmp_path / CIFAR10, cifar_members())
    return path, RECIPES["cifar10"]._replace(url_infos=url_infos(path))


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path: Path) -> tuple[list[Path], Recipe]:
    arrays = [MNIST_TRAIN[0][..., 0], MNIST_TRAIN[1], MNIST_TEST[0][..., 0], MNIST_TEST[1]]
    folder = tmp_path / "archives"
    folder.mkdir()
    for name, array in zip(MNIST, arrays, strict=True):
        (folder / name).write_bytes(gzip.compress(idx(array)))
    paths = [folder / name for name in MNIST]
    return paths, RECIPES["mnist"]._replace(url_infos=url_infos(*paths))


def assert_nothing_prepared(data_dir: Path) -> None:
    assert [one.name for one in datasets.available(data_dir) if one.prepared] == ["digits"]
    assert not [path for path in data_dir.rglob("*") if path.is_file() and "downloads" not in path.parts]
    assert not list(data_dir.glob(".preparing-*"))


def test_cifar10_reads_back_pixel_for_pixel_in_its_original_order(
    cifar10: tuple[Path, Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, recipe = cifar10
    seen: list[tuple[int, int]] = []
    record = lambda done, total: seen.append((done, total))  # noqa: E731
    place = datasets.prepare("cifar10", tmp_path / "data", archives=[archive], recipe=recipe, progress=record)
    assert place == tmp_path / "data" / "cifar10" / "3.0.2"
    assert seen == [(done, sum(COUNTS)) for done in range(1, sum(COUNTS) + 1)]
    data = datasets.load("cifar10", data_dir=tmp_path / "data")
    for part, split, (images, labels) in (("train", data.train, CIFAR_TRAIN), ("test", data.test, CIFAR_TEST)):
        np.testing.assert_array_equal(split.images, images)
        np.testing.assert_array_equal(split.labels, labels)
        assert split.ids.tolist() == [f"{part}_{i:05d}" for i in range(len(labels))]
    assert data.classes == tuple(NAMES)
    assert capsys.readouterr() == ("", "")


def test_the_stored_order_is_that_of_tfds(cifar10: tuple[Path, Recipe], tmp_path: Path) -> None:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.hashing import Hasher

    archive, recipe = cifar10
    place = datasets.prepare("cifar10", tmp_path, archives=[archive], recipe=recipe)
    for split, count in zip(("train", "test"), COUNTS, strict=True):
        skip = {"image": tfds.decode.SkipDecoding()}
        source = tfds.builder_from_directory(place).as_data_source(split, decoders=skip)
        hasher = Hasher(split)
        expected = sorted(range(count), key=hasher.hash_key)
        assert [source[i]["id"].decode() for i in range(count)] == [f"{split}_{i:05d}" for i in expected]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("as_folder", [False, True])
def test_the_mnist_family_reads_back_pixel_for_pixel(
    mnist: tuple[list[Path], Recipe], tmp_path: Path, name: str, as_folder: bool
) -> None:
    paths, recipe = mnist
    archives = [paths[0].parent] if as_folder else paths[::-1]
    datasets.prepare(name, tmp_path / "data", archives=archives, recipe=recipe)
    data = datasets.load(name, data_dir=tmp_path / "data")
    for split, (images, labels) in ((data.train, MNIST_TRAIN), (data.test, MNIST_TEST)):
        # TFDS stores MNIST in a hashed order and without ids; the random pixels tell the rows apart.
        found = {image.tobytes(): label for image, label in zip(split.images, split.labels, strict=True)}
        assert found == {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
        assert split.images.shape == images.shape
    assert data.classes[:2] == (("0", "1") if name == "mnist" else ("T-shirt/top", "Trouser"))


def test_a_second_call_returns_at_once_and_needs_no_archive(cifar10: tuple[Path, Recipe], tmp_path: Path) -> None:
    archive, recipe = cifar10
    place = datasets.prepare("cifar10", tmp_path, archives=[archive], recipe=recipe)
    archive.unlink()
    assert datasets.prepare("cifar10", tmp_path) == place


def test_one_archive_may_have_any_name(cifar10: tuple[Path, Recipe], tmp_path: Path) -> None:
    archive, recipe = cifar10
    renamed = archive.rename(tmp_path / "cifar.tgz")
    assert datasets.prepare("cifar10", tmp_path, archives=[str(renamed)], recipe=recipe).is_dir()


@pytest.mark.parametrize("name", RECIPES)
def test_the_checksums_are_those_of_tfds(name: str, tmp_path: Path) -> None:
    for file in RECIPES[name].files:
        (tmp_path / file).write_bytes(b"not the original")
    with pytest.raises(ValueError, match="is not the original archive: its sha256 is"):
        datasets.prepare(name, tmp_path / "data", archives=[tmp_path])
    assert_nothing_prepared(tmp_path / "data")


def test_another_content_than_the_checksum_says_is_refused(cifar10: tuple[Path, Recipe], tmp_path: Path) -> None:
    archive, recipe = cifar10
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="is not the original archive: its sha256 is"):
        datasets.prepare("cifar10", tmp_path / "data", archives=[archive], recipe=recipe)
    assert_nothing_prepared(tmp_path / "data")


def test_member_paths_and_links_in_a_tar_are_never_followed(cifar10: tuple[Path, Recipe], tmp_path: Path) -> None:
    archive, recipe = cifar10
    absolute = str(tmp_path / "absolutely-escaped")
    write_tar(archive, {"../../escaped": b"x", absolute: b"x", **cifar_members()})
    with gzip.open(archive) as file:
        plain = io.BytesIO(file.read())
    with tarfile.open(fileobj=plain, mode="a") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    archive.write_bytes(gzip.compress(plain.getvalue()))
    recipe = recipe._replace(url_infos=url_infos(archive))
    datasets.prepare("cifar10", tmp_path / "data", archives=[archive], recipe=recipe)
    assert not list(tmp_path.rglob("*escaped*"))


def test_missing_archives_and_unknown_names_are_named(mnist: tuple[list[Path], Recipe], tmp_path: Path) -> None:
    paths, recipe = mnist
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz are accepted"):
        datasets.prepare("mnist", tmp_path / "data", archives=paths[:2], recipe=recipe)
    paths[3].unlink()
    for archives in (paths, [paths[0].parent]):
        with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte.gz: no such archive"):
            datasets.prepare("mnist", tmp_path / "data", archives=archives, recipe=recipe)
    with pytest.raises(ValueError, match="'imagenet'; cifar10, mnist, fashion_mnist can be prepared"):
        datasets.prepare("imagenet", tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_an_interruption_leaves_nothing_that_looks_prepared(
    cifar10: tuple[Path, Recipe], tmp_path: Path, error: type[BaseException]
) -> None:
    archive, recipe = cifar10

    def interrupt(done: int, total: int) -> None:
        if done == 55:  # the training part is written, the test part begun
            raise error("interrupted")

    with pytest.raises(error if error is not RuntimeError else OSError):
        datasets.prepare("cifar10", tmp_path / "data", archives=[archive], recipe=recipe, progress=interrupt)
    assert_nothing_prepared(tmp_path / "data")
    datasets.prepare("cifar10", tmp_path / "data", archives=[archive], recipe=recipe)
    assert len(datasets.load("cifar10", data_dir=tmp_path / "data").train.labels) == COUNTS[0]


SCRIPT = f"""
import sys, time
from funcgrad import datasets
from funcgrad.datasets.tfds_writer import RECIPES
from tensorflow_datasets.core.download.checksums import UrlInfo
archive, size, checksum, data, stop = sys.argv[1:]
counts = {COUNTS}
recipe = RECIPES["cifar10"]._replace(url_infos={{"": UrlInfo(int(size), checksum, "cifar-10-binary.tar.gz")}})
def progress(done, total):
    if done == int(stop):
        print("half", flush=True)
        time.sleep(60)
datasets.prepare("cifar10", data, archives=[archive], recipe=recipe, progress=progress)
assert len(datasets.load("cifar10", data_dir=data).train.labels) == counts[0]
print(sorted({{"tensorflow", "jax"}} & set(sys.modules)))
"""


def script(archive: Path, recipe: Recipe, data: Path, stop: int) -> list[str]:
    assert recipe.url_infos is not None
    [info] = recipe.url_infos.values()
    given = archive, info.size, info.checksum, data, stop
    return [sys.executable, "-W", "error", "-c", SCRIPT, *map(str, given)]


@pytest.mark.exhaustive
def test_what_a_killed_run_leaves_is_not_taken_for_data_and_is_removed_later(
    cifar10: tuple[Path, Recipe], tmp_path: Path
) -> None:
    archive, recipe = cifar10
    data = tmp_path / "data"
    with subprocess.Popen(script(archive, recipe, data, 55), stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "half\n"
        [left] = data.glob(".preparing-*")
        # A second run beside a living one leaves its directory alone.
        datasets.prepare("cifar10", data, archives=[archive], recipe=recipe)
        assert left.is_dir()
        for path in sorted((data / "cifar10").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        run.send_signal(signal.SIGKILL)
    assert left.is_dir()
    assert [one.name for one in datasets.available(data) if one.prepared] == ["digits"]
    with pytest.raises(ValueError, match="funcgrad data prepare cifar10"):
        datasets.load("cifar10", data_dir=data)
    os.utime(left, (time.time() - 100_000,) * 2)  # more than a day ago
    datasets.prepare("cifar10", data, archives=[archive], recipe=recipe)
    assert [path.name for path in data.iterdir()] == ["cifar10"]


@pytest.mark.exhaustive
def test_neither_preparing_nor_loading_imports_tensorflow_or_jax_even_where_they_are_installed(
    cifar10: tuple[Path, Recipe], tmp_path: Path
) -> None:
    archive, recipe = cifar10
    (tmp_path / "site" / "tensorflow").mkdir(parents=True)
    (tmp_path / "site" / "tensorflow" / "__init__.py").write_text("raise RuntimeError('imported')")
    root = str(Path(datasets.__file__).parent.parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, str(tmp_path / "site")])}
    command = script(archive, recipe, tmp_path / "data", -1)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.exhaustive
def test_two_runs_at_once_both_succeed(cifar10: tuple[Path, Recipe], tmp_path: Path) -> None:
    archive, recipe = cifar10
    command = script(archive, recipe, tmp_path / "data", -1)
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for run in runs:
        out, err = run.communicate()
        assert (run.returncode, out, err) == (0, "[]\n", "")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["cifar10"]


@pytest.mark.exhaustive
def test_a_full_disk_is_an_os_error_and_leaves_nothing(cifar10: tuple[Path, Recipe], tmp_path: Path) -> None:
    archive, recipe = cifar10
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"  # bytes a file may have
    command = script(archive, recipe, tmp_path / "data", -1)
    command[4] = limit + command[4]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "OSError" in done.stderr.splitlines()[-1]
    assert_nothing_prepared(tmp_path / "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_directory_is_an_os_error(cifar10: tuple[Path, Recipe], tmp_path: Path) -> None:
    archive, recipe = cifar10
    (tmp_path / "data").mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        datasets.prepare("cifar10", tmp_path / "data", archives=[archive], recipe=recipe)


def test_a_data_dir_that_is_a_file_is_an_os_error(cifar10: tuple[Path, Recipe], tmp_path: Path) -> None:
    archive, recipe = cifar10
    with pytest.raises(OSError, match="cifar-10-binary"):
        datasets.prepare("cifar10", archive, archives=[archive], recipe=recipe)


def test_a_directory_of_another_format_is_refused(cifar10: tuple[Path, Recipe], tmp_path: Path) -> None:
    archive, recipe = cifar10
    info = datasets.prepare("cifar10", tmp_path, archives=[archive], recipe=recipe) / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match=r"3.0.2 is in tfrecord format, for TensorFlow only; array_record is accepted"):
        datasets.prepare("cifar10", tmp_path)
    info.unlink()
    with pytest.raises(ValueError, match=r"3.0.2: TFDS cannot read its metadata"):
        datasets.prepare("cifar10", tmp_path)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Short(Quiet):
    """Promises the whole file and hangs up after half of it."""

    def copyfile(self, source: io.BufferedReader, outputfile: io.BufferedIOBase) -> None:  # type: ignore[override]
        content = source.read()
        outputfile.write(content[: len(content) // 2])


@pytest.fixture
def serve() -> Iterator[Callable[[Path, type[Quiet]], str]]:
    servers = []

    def start(folder: Path, handler: type[Quiet] = Quiet) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        servers.append((server, thread := threading.Thread(target=server.serve_forever, args=(0.01,))))
        thread.start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def test_archives_are_downloaded_once_and_verified(
    mnist: tuple[list[Path], Recipe], tmp_path: Path, serve: Callable[..., str]
) -> None:
    paths, recipe = mnist
    root = serve(paths[0].parent)
    recipe = recipe._replace(url_infos=url_infos(*paths, root=root))
    seen: list[tuple[int, int]] = []
    place = datasets.prepare("mnist", tmp_path / "data", recipe=recipe, progress=lambda *at: seen.append(at))
    sizes = [path.stat().st_size for path in paths]
    assert seen[:4] == [(size, size) for size in sizes]
    assert sorted(path.name for path in (tmp_path / "data" / "downloads" / "mnist").iterdir()) == sorted(MNIST)
    for path in sorted(place.iterdir()):
        path.unlink()
    place.rmdir()
    offline = recipe._replace(url_infos=url_infos(*paths))
    assert datasets.prepare("mnist", tmp_path / "data", recipe=offline) == place


@pytest.mark.parametrize("kind", ["changed", "short", "missing", "refused"])
def test_a_failed_download_is_never_taken_for_whole(
    cifar10: tuple[Path, Recipe], tmp_path: Path, serve: Callable[..., str], kind: str
) -> None:
    archive, recipe = cifar10
    root = serve(tmp_path, Short if kind == "short" else Quiet)
    url = {"missing": f"{root}/nowhere.tar.gz", "refused": "http://127.0.0.1:1/x"}.get(kind, f"{root}/{CIFAR10}")
    [info] = url_infos(archive).values()
    if kind == "changed":
        write_tar(archive, {"other": b"content"})
    expected: tuple[type[Exception], str] = {
        "changed": (ValueError, "download of http.*not the original archive: its sha256"),
        "short": (ValueError, "download of http.*not the original archive: its sha256"),
        "missing": (OSError, "download failed; --from takes a local copy .*404"),
        "refused": (OSError, "download failed; --from takes a local copy .*refused"),
    }[kind]
    with pytest.raises(expected[0], match=expected[1]):
        datasets.prepare("cifar10", tmp_path / "data", recipe=recipe._replace(url_infos={url: info}))
    assert_nothing_prepared(tmp_path / "data")
    assert not (tmp_path / "data" / "downloads").exists()
