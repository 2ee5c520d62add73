"""Names of what can be plugged in: built in, from an installed package, or FILE.py:NAME and MODULE:NAME.

Whatever a name stands for is imported when it is asked for. Files and modules are imported only where a person named
them, on the command line or in an environment variable: a name that is read from data never runs anything.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from onestride.own_code import own_code

T = TypeVar("T")


class UnknownNameError(ValueError):
    """A name that stands for nothing; the message has the nearest, and all there are."""


class Registry(MutableMapping[str, Callable[[], T]]):
    """Names -> functions that make what they stand for. A record may stand in a package or file as it is.

    what: one of them, in words. group: of installed packages' entry points. variable: of the environment, references
    FILE.py:NAME or MODULE:NAME with commas between; processes that this one starts know them by it. made: makes
    something of a name that nothing else knows, or None.
    """

    def __init__(
        self,
        what: str,
        group: str,
        variable: str,
        built_in: dict[str, Callable[[], T]],
        made: Callable[[str], Callable[[], T] | None] = lambda _name: None,
    ) -> None:
        self.what, self.group, self.variable, self._made = what, group, variable, made
        self._known = dict(built_in)
        self._installed: dict[str, Any] | None = None
        self._read: set[str] = set()  # references

    def add(self, reference: str) -> str:
        """Import FILE.py:NAME or MODULE:NAME here and in the processes that this one starts.

        Returns:
            The name by which it is known from now on: the ``name`` of what it makes.

        Raises:
            UnknownNameError: no such file, module or attribute, or its name is taken.
        """
        name = self._add(reference)
        kept = self._named()
        if (reference := _absolute(reference)) not in kept:
            os.environ[self.variable] = ",".join([*kept, reference])
        return name

    def resolve(self, name: str) -> str:
        """Return the name by which ``name`` is known: itself, or for FILE.py:NAME and MODULE:NAME what they make.

        Raises:
            UnknownNameError: it stands for nothing.
        """
        if name in self:
            return name
        if ":" in name:
            return self.add(name)
        raise self.unknown(name)

    def unknown(self, name: str) -> UnknownNameError:
        """The error for a name that stands for nothing."""
        near = nearest(name, self)
        hint = f" Did you mean '{near}'?" if near else ""
        return UnknownNameError(
            f"there is no {self.what} '{name}'.{hint} There are: {', '.join(self)}. Name one of your own by "
            f"FILE.py:NAME or MODULE:NAME, here or in ${self.variable}, or install its package (entry points "
            f"'{self.group}')"
        )

    # ------------------------------------------------------------ the mapping

    def __getitem__(self, name: str) -> Callable[[], T]:
        found = self._find(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __setitem__(self, name: str, make: Callable[[], T]) -> None:
        self._known[name] = make

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __iter__(self) -> Iterator[str]:
        self._read_variable()
        return iter([*self._known, *(name for name in self._from_packages() if name not in self._known)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _find(self, name: str) -> Callable[[], T] | None:
        if name in self._known:
            return self._known[name]
        self._read_variable()
        if name in self._known:
            return self._known[name]
        if name in self._from_packages():
            self._known[name] = _making(self._from_packages()[name].load())
            return self._known[name]
        return self._made(name)

    # ------------------------------------------------------------ where names come from

    def _from_packages(self) -> dict[str, Any]:
        if self._installed is None:
            from importlib.metadata import entry_points  # takes its time, and most names are built in

            self._installed = {point.name: point for point in entry_points(group=self.group)}
        return self._installed

    def _read_variable(self) -> None:
        for reference in self._named():
            if reference not in self._read:
                self._add(reference)

    def _named(self) -> list[str]:
        return [reference for reference in os.environ.get(self.variable, "").split(",") if reference]

    def _add(self, reference: str) -> str:
        make = _making(attribute(_absolute(reference), self.what))
        self._read.add(_absolute(reference))
        with own_code():
            made = make()
        if not hasattr(made, "name"):
            raise UnknownNameError(
                f"{reference} makes a {type(made).__name__}, expected a {self.what}; does the function return it?"
            )
        name = made.name
        if name in self._known and self._known[name] != make:
            raise UnknownNameError(
                f"{reference} makes a {self.what} named '{name}', and there is another of that name; give it its own"
            )
        self._known[name] = make
        return name


@dataclass(frozen=True)
class _Made:
    """Makes what is there already."""

    record: Any

    def __call__(self) -> Any:
        return self.record


def _making(found: Any) -> Callable[[], Any]:
    return found if callable(found) else _Made(found)


def attribute(reference: str, what: str) -> Any:
    """Import FILE.py:NAME or MODULE:NAME and return what NAME stands for there.

    Raises:
        UnknownNameError: there is no such file, module or name.
        OwnCodeError: it cannot be imported.
    """
    place, _, name = reference.rpartition(":")
    if not place or not name:
        raise UnknownNameError(f"{what} '{reference}' is no FILE.py:NAME or MODULE:NAME")
    if place.endswith(".py"):
        module = _module_of(Path(place), reference, what)
    else:
        with own_code():
            module = _imported(place, reference, what)
    if not hasattr(module, name):
        there = _like(name, (n for n in vars(module) if not n.startswith("_")))
        raise UnknownNameError(f"{what} '{reference}': {place} has no '{name}'{there}")
    return getattr(module, name)


def _imported(place: str, reference: str, what: str) -> Any:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and not place.startswith(error.name):
            raise  # the module is there, and something that it imports is not
        raise UnknownNameError(f"{what} '{reference}': there is no module '{place}' to import") from error


def _module_of(path: Path, reference: str, what: str) -> Any:
    if not path.is_file():
        raise UnknownNameError(f"{what} '{reference}': there is no file {path}")
    name = f"onestride_plugin_{path.resolve().stem}"
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that what it defines can be sent to other processes
    beside = str(path.resolve().parent)
    if beside not in sys.path:  # it may import the files beside it, as when Python runs it
        sys.path.append(beside)
    try:
        with own_code():
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # half of it is not to be found again
        raise
    return module


def _absolute(reference: str) -> str:
    """The same for processes in other folders."""
    place, _, name = reference.rpartition(":")
    return f"{Path(place).resolve()}:{name}" if place.endswith(".py") else reference


def _like(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f"; did you mean '{near}'?" if near else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like ``name``, or None where none is."""
    from difflib import get_close_matches  # only where something is wrong

    return next(iter(get_close_matches(name, list(known), 1)), None)
