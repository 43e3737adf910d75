"""Values that were made once and may be asked for again: those used last are kept."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most ``most`` values by key."""

    __slots__ = ("_kept", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Returns a value, None if it is not kept."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, key: K, value: V) -> V:
        """Keeps a value, in the place of the one used longest ago if there are too many."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return value


class Same(Generic[V]):
    """At most ``most`` values that were made of objects, for the same objects again.

    The same, not equal ones: what is kept keeps them alive, so that no others come to
    stand in their place.  For objects that do not change.
    """

    __slots__ = ("_kept",)

    def __init__(self, most: int) -> None:
        self._kept = Recent[tuple[int, ...], tuple[tuple[object, ...], V]](most)

    def get(self, *objects: object) -> V | None:
        """Returns the value made of these objects, None if it is not kept."""
        found = self._kept.get(tuple(map(id, objects)))
        return None if found is None else found[1]

    def keep(self, *objects: object, value: V) -> V:
        """Keeps the value made of these objects."""
        return self._kept.keep(tuple(map(id, objects)), (objects, value))[1]
