"""What of a configuration may change when a run is resumed: settings that its saved state was made under may not."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

_MOST_SHOWN = 12


def refuse_changes(
    saved: Mapping[str, Any], config: BaseModel, checkpoint: Path, *, fixed: Collection[str], free: Collection[str]
) -> str | None:
    """Compares the configuration with that which `checkpoint` was saved under (`saved`, as `model_dump(mode="json")`).

    Raises ValueError naming all settings under a name of `fixed` that differ. Those under a name of `free` change no result;
    of all others that differ a sentence is returned: from here on the run is another one, which may be what is wanted.
    """
    old, new = _flat(saved), _flat(config.model_dump(mode="json"))
    names = [
        name
        for name in {**old, **new}
        if old.get(name) != new.get(name) and _known(name, old) and _known(name, new) and not _under(name, free)
    ]
    refused = [name for name in names if _under(name, fixed)]
    if refused:
        raise ValueError(
            f"{checkpoint} was saved under other settings, which its state depends on: {_shown(refused, old, new)}. Resume "
            "with the old values, or start a new run with this checkpoint as its model"
        )
    if not names:
        return None
    return f"changed since {checkpoint.name}, and in force from here on: {_shown(names, old, new)}"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {f"{prefix}{name}": value}
    return found


def _known(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether there is such a setting, or a section in the place of it: one that is not came with another version of rlcs."""
    return _under(name, settings) or any(other.startswith(f"{name}.") for other in settings)


def _under(name: str, sections: Collection[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in sections for length in range(1, len(parts) + 1))


def _shown(names: Collection[str], old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    shown = [f"{name} {old.get(name, 'absent')} -> {new.get(name, 'absent')}" for name in names]
    return ", ".join(shown[:_MOST_SHOWN]) + (f" and {len(shown) - _MOST_SHOWN} more" if len(shown) > _MOST_SHOWN else "")
