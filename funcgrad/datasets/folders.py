"""A folder of images: which folders in it are parts and classes, and what in it is no image.

Everything is decided from one listing (`Tree`), in which a path is a tuple of names below the root.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from funcgrad.datasets.arrays import PARTS
from funcgrad.datasets.images import Encoded, Example, Source, suffixes
from funcgrad.files import counted, listed, shown

_NO_DATA = ("__MACOSX", "__pycache__", "@eaDir")  # what systems leave in folders; so do names that begin with a dot

Names = tuple[str, ...]


class Tree(NamedTuple):
    """Folders and images below a root, sorted; what else there is, by kind; and the hidden folders."""

    root: Path
    folders: list[Names]
    images: list[Names]
    others: Counter[str]
    hidden: list[Names]

    def below(self, top: Names) -> list[str]:
        """The names of the folders in one."""
        return [path[-1] for path in self.folders if path[:-1] == top]

    def images_in(self, top: Names) -> list[Names]:
        """Those that lie in a folder itself."""
        return [path for path in self.images if path[:-1] == top]

    def show(self, path: Names) -> str:
        return shown(self.root.joinpath(*path))


def folder_source(root: Path, *, allow_empty_classes: bool = False) -> Source:
    """Class folders of images, alone or below train, val and test, sorted by path; an id is the path below the root.

    Where all is in one folder, that one is read. Raises ValueError where that leaves the labels of images unclear.
    """
    tree = list_tree(root)
    top = _enter(tree)
    folders, split = _parts(tree, top)
    first = folders["train"]
    classes = tree.below(first)
    if not classes:
        count = counted(len(tree.images_in(first)), "image")
        why = f"{count} and no class folders, so that labels are unknown; `funcgrad predict` takes such a folder"
        raise ValueError(f"{tree.show(first)}: {why}")
    if len(classes) == 1:
        only = tree.show((*first, *classes))
        raise ValueError(f"{only} is the only class in {tree.show(first)}; two or more are needed")
    for folder in [*folders.values()][1:]:
        if unknown := [name for name in tree.below(folder) if name not in classes]:
            raise ValueError(f"{tree.show(folder)}: not a class of the training part: {listed(map(shown, unknown))}")
    by_class, loose = _by_class(tree, folders)
    if (empty := [folder for folder, images in by_class.items() if not images]) and not allow_empty_classes:
        which = listed(map(tree.show, empty))
        raise ValueError(f"{which}: no images in it{_others(tree)}; --allow-empty-classes takes such classes")
    numbers = {name: number for number, name in enumerate(classes)}
    parts = {
        part: [_example(tree, path, numbers[name]) for name in tree.below(folder) for path in by_class[*folder, name]]
        for part, folder in folders.items()
    }
    return _source(tree, top, Encoded(parts, [_id((name,)) for name in classes], split=split), loose)


def examples_source(path: Path) -> Source:
    """All images of a file, or in a folder and below it; a label is -1 and there are no classes unless all have one."""
    if path.is_file():
        tree = Tree(path.parent, [], [(path.name,)], Counter(), [])
        return _source(tree, (), Encoded({"all": [_example(tree, (path.name,), -1)]}, []), [])
    tree = list_tree(path)
    top = _enter(tree)
    folders, _ = _parts(tree, top)
    by_class, loose = _by_class(tree, folders)
    classes = [] if loose else sorted({folder[-1] for folder, images in by_class.items() if images})
    labels = {path: classes.index(folder[-1]) for folder, images in by_class.items() for path in images if classes}
    examples = [_example(tree, path, labels.get(path, -1)) for path in tree.images]
    return _source(tree, top, Encoded({"all": examples}, [_id((name,)) for name in classes]), [])


def list_tree(root: Path) -> Tree:
    """What is in a folder, hidden folders apart; links that lead back are not followed."""
    tree = Tree(root, [], [], Counter(), [])

    def visit(folder: str, path: Names, above: Names) -> None:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            inside, suffix = (*path, entry.name), os.path.splitext(entry.name)[1].lower()
            if entry.is_dir():
                place = os.path.realpath(entry.path)
                if entry.name.startswith(".") or entry.name in _NO_DATA:
                    tree.hidden.append(inside)
                elif place not in above:  # else a link to where we are
                    tree.folders.append(inside)
                    visit(entry.path, inside, (*above, place))
            elif entry.name.startswith("."):
                pass
            elif suffix in suffixes() and entry.is_file():
                tree.images.append(inside)
            else:
                tree.others[(suffix or "no suffix") if entry.is_file() else "not a regular file"] += 1

    visit(str(root), (), (os.path.realpath(root),))
    if not tree.images:
        raise ValueError(f"{shown(root)}: no images in it{_others(tree)}")
    return tree


def _enter(tree: Tree) -> Names:
    """The folder in which classes or parts are: the root, or else the only folder in it, and so on."""
    top: Names = ()
    while len(names := tree.below(top)) == 1 and not tree.images_in(top):
        inner = (*top, *names)
        if tree.images_in(inner) or not tree.below(inner):
            break
        top = inner
    return top


def _parts(tree: Tree, top: Names) -> tuple[dict[str, Names], str]:
    """The folder of each part, the training part first, and how the test part was taken, if there is one."""
    names = tree.below(top)
    found = {part: [name for name in names if name.lower() in accepted] for part, accepted in PARTS.items()}
    known = [name for several in found.values() for name in several]
    holding = {path[len(top)] for path in tree.images if path[: len(top)] == top}  # folders with images below them
    others = [name for name in names if name not in known and name in holding]
    if len(known) < 2 or (others and not any(tree.below((*top, name)) for name in known)):
        return {"train": top}, ""  # they are classes, one of which may be called train
    where, listing = tree.show(top), ", ".join(map(shown, known))
    if others:
        raise ValueError(
            f"{where}: {listing} beside {listed(map(shown, others))}; parts and classes are not told apart"
        )
    for part, several in found.items():
        if len(several) > 1 or (part == "train" and not several):
            listing = ", ".join(map(shown, several or known))
            raise ValueError(f"{where}: {listing}; one folder is accepted as the {part} part")
    first, *held_out = [(*top, *several) for several in found.values()]
    held_out = [folder for folder in held_out if folder != top and tree.below(folder)]  # else there are no labels
    if not held_out:
        return {"train": first}, ""
    parts = {"train": first, **({"validation": held_out[0]} if len(held_out) > 1 else {}), "test": held_out[-1]}
    return parts, f"the folder {shown(held_out[-1][-1])} is the test part"


def _by_class(tree: Tree, folders: Mapping[str, Names]) -> tuple[dict[Names, list[Names]], list[Names]]:
    """The images in and below each class folder, and those that are in none."""
    by_class: dict[Names, list[Names]] = {(*x, name): [] for x in folders.values() for name in tree.below(x)}
    loose: list[Names] = []
    depths = {len(folder) + 1 for folder in folders.values()}
    for path in tree.images:
        inside = next((path[:depth] for depth in depths if path[:depth] in by_class), None)
        (loose if inside is None else by_class[inside]).append(path)
    return by_class, loose


def _example(tree: Tree, path: Names, label: int) -> Example:
    return Example(tree.show(path), tree.root.joinpath(*path), label, _id(path))


def _id(path: Names) -> str:
    """The path as text that JSON and CSV can hold, one for each path."""
    return shown("/".join(path).replace("\\", "\\\\"))


def _source(tree: Tree, top: Names, encoded: Encoded, loose: Sequence[Names]) -> Source:
    notes, details = [], dict[str, Any]()
    if top:
        notes.append(f"{tree.show(top)} is read, in which all images are")
    if loose:
        notes.append(f"{counted(len(loose), 'image')} in no class folder left out: {listed(map(_id, loose))}")
        details["in no class folder"] = [_id(path) for path in loose]
    if tree.others:
        notes.append(f"{counted(tree.others.total(), 'file')} of other kinds skipped: {_kinds(tree)}")
        details["skipped"] = dict(tree.others.most_common())
    if tree.hidden:
        notes.append(f"hidden folders skipped: {listed(map(_id, tree.hidden))}")
        details["hidden"] = [_id(path) for path in tree.hidden]
    files = [example.image for part in encoded.parts.values() for example in part if isinstance(example.image, Path)]
    identity = [encoded.classes, encoded.split, {part: len(examples) for part, examples in encoded.parts.items()}]
    return Source(tree.root, files, lambda: encoded, identity, tuple(notes), details)


def _kinds(tree: Tree) -> str:
    return listed(f"{shown(kind)} {count:,}" for kind, count in tree.others.most_common())


def _others(tree: Tree) -> str:
    return f" (but files of other kinds: {_kinds(tree)})" if tree.others else ""
