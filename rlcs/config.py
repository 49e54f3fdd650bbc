"""Configuration files: YAML with OmegaConf interpolation, `key=value` overrides, checked against a pydantic model.

Values are taken as written: "3" is text and not the number 3, and `true` is no number. Paths in a configuration are
relative to the current directory.
"""

import difflib
import json
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

Config = TypeVar("Config", bound=BaseModel)

_MAX_FOUND = 80  # characters of an offending value shown
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number, without a decimal point or exponent",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text; put it in quotes if it looks like a number",
    "tuple_type": "a list, [a, b]",
    "list_type": "a list, [a, b]",
    "dict_type": "keys with values, {a: 1}",
    "model_type": "keys with values, {a: 1}",
    "path_type": "a path",
}


class ConfigError(ValueError):
    """A configuration cannot be used. The message holds every fault found: file, line, key, what was found and expected."""


def load_config(cls: type[Config], path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of type `cls` in the YAML file `path`, after `overrides` such as "curriculum.explore=0.1".

    An override's value is read as YAML: `1e-3`, `null`, `[a, b]`, `{a: 1}`. Raises ConfigError with all faults at once.
    """
    path = Path(path)
    text = _read(path)
    config = _parse(text, path)
    lines = _lines(text)
    faults: list[str] = []
    overridden: dict[str, str] = {}
    for override in overrides:
        fault = _apply(config, override, overridden)
        if fault is not None:
            faults.append(fault)
    unresolved: dict[str, str] = {}
    values = _resolve(config, "", unresolved)
    problems = list(unresolved.items())
    try:
        # From JSON, strict mode takes a list for a tuple and text for a path, but no text for a number.
        checked = cls.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        keys = {_dotted(item["loc"]) for item in error.errors()}
        problems = [(key, fault) for key, fault in problems if key not in keys]
        problems += [(_dotted(item["loc"]), _fault(cls, item, unresolved)) for item in error.errors()]
    for key, fault in problems:
        faults.append(f"{_where(key, path, lines, overridden)}: {fault}")
    if faults:
        head = f"{path}: {len(faults)} faults" if len(faults) > 1 else str(path)
        raise ConfigError("\n  ".join([f"{head}:", *faults]) if len(faults) > 1 else f"{head}: {faults[0]}")
    return checked


def to_yaml(config: BaseModel) -> str:
    """The configuration with every default written out, as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such file{_nearest(path.name, siblings)}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); expected a YAML file") from error


def _parse(text: str, path: Path) -> DictConfig:
    try:
        values = yaml.load(text, Loader=get_yaml_loader())  # a SafeLoader that reads 1e-3 as a number
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = ", ".join(part for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part)
        raise ConfigError(f"{path}{place}: not valid YAML: {what or error}") from error
    if values is not None and not isinstance(values, dict):
        raise ConfigError(f"{path}: found {_show(values)} at the top; expected `key: value` lines")
    try:
        return OmegaConf.create(values or {})
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: not a valid interpolation: {_first_line(error)}") from error


def _lines(text: str) -> dict[str, int]:
    """Dotted key -> its line in the file."""
    found: dict[str, int] = {}

    def walk(node: yaml.Node | None, prefix: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                found[f"{prefix}{key.value}"] = key.start_mark.line + 1
                walk(value, f"{prefix}{key.value}.")
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                found[f"{prefix}{index}"] = value.start_mark.line + 1
                walk(value, f"{prefix}{index}.")

    walk(yaml.compose(text, Loader=yaml.SafeLoader), "")
    return found


def _apply(config: DictConfig, override: str, overridden: dict[str, str]) -> str | None:
    """Sets what `override` says; returns its fault if it cannot be understood."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")) or any(c.isspace() for c in key):
        return f"override {override!r}: expected KEY=VALUE with a dotted key, such as optimizer.lr=1e-4"
    try:
        value = yaml.load(text, Loader=get_yaml_loader())
    except yaml.YAMLError as error:
        return f"override {override!r}: the value is not valid YAML ({getattr(error, 'problem', error)}); put it in quotes"
    try:
        OmegaConf.update(config, key, value, merge=True, force_add=True)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        return f"override {override!r}: {_first_line(error)}"
    overridden[key] = override
    return None


def _resolve(node: DictConfig | ListConfig, prefix: str, faults: dict[str, str]) -> Any:
    """Plain values with interpolations resolved; what cannot be resolved is null and has an entry in `faults`."""

    def value_of(key: Any) -> Any:
        try:
            value = node[key]
        except OmegaConfBaseException as error:
            faults[f"{prefix}{key}"] = f"cannot be resolved: {_first_line(error)}"
            return None
        if isinstance(value, DictConfig | ListConfig):
            return _resolve(value, f"{prefix}{key}.", faults)
        if value is not None and not isinstance(value, str | bool | int | float):
            faults[f"{prefix}{key}"] = f"found a {type(value).__name__}; expected text, a number, true, false or null"
            return None
        return value

    if isinstance(node, ListConfig):
        return [value_of(index) for index in range(len(node))]
    return {str(key): value_of(key) for key in node}


def _where(key: str, path: Path, lines: dict[str, int], overridden: dict[str, str]) -> str:
    """The key, and the override or line that set it, or the nearest one around it."""
    if not key:
        return "the values together"
    parts = key.split(".")
    for override_key in reversed(overridden):
        if f"{key}.".startswith(f"{override_key}.") or override_key.startswith(f"{key}."):
            return f"key '{key}' (override {overridden[override_key]!r})"
    for depth in range(len(parts), 0, -1):
        line = lines.get(".".join(parts[:depth]))
        if line is not None:
            return f"key '{key}' (line {line})"
    return f"key '{key}'"


def _dotted(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc)


def _fault(cls: type[BaseModel], item: Any, unresolved: dict[str, str]) -> str:
    """What pydantic found wrong, as found / expected / mend."""
    loc, kind = item["loc"], item["type"]
    if _dotted(loc) in unresolved:
        return unresolved[_dotted(loc)]
    if kind == "extra_forbidden":
        return _unknown_key(cls, loc)
    if kind == "missing":
        model = next((m for m in _models_at(cls, loc[:-1]) if loc[-1] in m.model_fields), None)
        about = model.model_fields[str(loc[-1])].description if model else None
        return "missing; add it" + (f" ({about.rstrip('. ')})" if about else "")
    if kind == "value_error":
        return str(item["ctx"]["error"])
    message = item["msg"]
    expected = _EXPECTED.get(kind) or message.removeprefix("Input should be ")
    if expected.startswith(("less", "greater")):
        expected = f"a value {expected}"
    return f"found {_show(item['input'])}; expected {expected}"


def _unknown_key(cls: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    name = str(loc[-1])
    here = sorted({field for model in _models_at(cls, loc[:-1]) for field in model.model_fields})
    elsewhere = [path for path in _paths(cls) if path.rpartition(".")[2] == name]
    if elsewhere:
        return f"unknown; there is {elsewhere[0]!r}"
    known = f" (known: {', '.join(here)})" if here else ""
    return f"unknown{_nearest(name, here) or known or '; remove it'}"


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models an annotation such as `A | None` or `Annotated[A, ...]` may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        for option in typing.get_args(annotation):
            yield from _models_in(option)


def _models_at(cls: type[BaseModel], loc: Sequence[int | str]) -> list[type[BaseModel]]:
    """The models that may stand at `loc`. Pydantic puts names of union members into it; those are passed over."""
    annotations: list[Any] = [cls]
    for part in loc:
        deeper: list[Any] = []
        for annotation in annotations:
            fields = [model.model_fields for model in _models_in(annotation)]
            deeper += [known[part].annotation for known in fields if isinstance(part, str) and part in known]
            deeper += [arg for option in _options(annotation) for arg in _items(option)]
        annotations = deeper or annotations
    return [model for annotation in annotations for model in _models_in(annotation)]


def _options(annotation: Any) -> Sequence[Any]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else [annotation]


def _items(annotation: Any) -> Sequence[Any]:
    """Annotations of what a list, tuple or dict annotation holds."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (list, tuple):
        return [arg for arg in args if arg is not ...]
    return args[1:] if origin is dict else ()


def _paths(cls: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted paths of all fields, nested models included."""
    for name, field in cls.model_fields.items():
        yield f"{prefix}{name}"
        for model in _models_in(field.annotation):
            yield from _paths(model, f"{prefix}{name}.")


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_FOUND else f"{text[:_MAX_FOUND]}…"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
