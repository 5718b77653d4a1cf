"""Annotations of tasks (``dask.annotate``) that outlive the fusion of the user's tasks into ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

#: What is annotated, such as ``retries`` or ``resources``, and the value for a key, or a function of the key.
Annotations = Mapping[str, Any]

# larger than any priority of ours, so that the user's decides first
_USERS_PRIORITY = 10**9


def with_ours(given: Annotations | None, priority: Callable[[Any], int]) -> dict[str, Any]:
    """What the user annotates our tasks with, and our priority among tasks of the same priority of the user's."""
    found = dict(given or {})
    users = found.get("priority", 0)
    return found | {"priority": partial(_prioritised, users, priority) if users else priority}


def by_key(layers: Iterable[Any]) -> dict[Any, dict[str, Any]]:
    """The annotations of each task of the layers that have any."""
    found: dict[Any, dict[str, Any]] = {}
    for layer in layers:
        for name, value in (layer.annotations or {}).items():
            for key in layer:
                found.setdefault(key, {})[name] = _value(value, key)
    return found


def for_layer(
    noted: Mapping[Any, dict[str, Any]], given: Annotations | None = None
) -> dict[str, Any] | None:
    """Annotations of a layer some of whose tasks have their own (``noted``), besides what all have."""
    found = dict(given or {})
    for name in {name for notes in noted.values() for name in notes}:
        values = {key: notes[name] for key, notes in noted.items() if name in notes}
        if name == "priority" and name in found:
            values = {key: _prioritised(users, found[name], key) for key, users in values.items()}
        found[name] = partial(_noted, values, found.get(name))
    return found or None


def _prioritised(users: Any, ours: Any, key: Any) -> int:
    return int(_value(users, key)) * _USERS_PRIORITY + int(_value(ours, key))


def _noted(values: dict[Any, Any], otherwise: Any, key: Any) -> Any:
    """The value of a key; of one without that of all tasks, or None, which dask passes over."""
    return values[key] if key in values else _value(otherwise, key)


def _value(value: Any, key: Any) -> Any:
    return value(key) if callable(value) else value
