"""What runs a policy's program once the process is locked in: as a script, or as a module whose functions are called.

Nothing here is trusted by the outside: the program shares the interpreter and may change any of it.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing `typing` would take longer than the rest of a start
if TYPE_CHECKING:
    from typing import Any

FILE_NAME = "program.py"
EXIT_SYNTAX, EXIT_MEMORY = 120, 121
"""Exit statuses that only choose between the reasons given for a failure; a program may use them too, and gains nothing."""


def load(source: bytes, name: str) -> Any:
    """Run `source` as the module called `name`."""
    module = type(sys)(name)
    module.__dict__["__file__"] = FILE_NAME
    sys.modules[name] = module
    try:
        code = compile(source, FILE_NAME, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: a NUL character
        _explain()
        os._exit(EXIT_SYNTAX)
    exec(code, module.__dict__)  # noqa: S102 (the sandbox's whole purpose)
    return module


def _explain() -> None:
    sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    sys.stderr.flush()


def run_script(source: bytes) -> None:
    """Run `source` as Python would: an exception ends the interpreter with its traceback."""
    sys.argv = [FILE_NAME]
    try:
        load(source, "__main__")
    except MemoryError:
        _explain()
        os._exit(EXIT_MEMORY)


def serve(source: bytes, requests: int, replies: int) -> None:
    """Load `source` as a module and answer requests about it, a line each, until there are no more.

    Request `{"op", "of": number or null, "name", "args", "kwargs"}`: the operation is done on that object, or on the module.
    Reply `{"value": form}` or `{"raised": [names of the exception's classes], "text"}`.
    """
    from rewards.sandbox import wire

    def reply(message: dict[str, Any]) -> None:
        data = memoryview(wire.encode(message))
        while data:
            data = data[os.write(replies, data) :]

    objects: list[Any] = []

    def keep(item: Any) -> int:
        objects.append(item)
        return len(objects) - 1

    try:
        module = load(source, "solution")
    except MemoryError:
        os._exit(EXIT_MEMORY)
    reply({"value": None})
    with open(requests, "rb") as lines:
        for line in lines:
            try:
                request = wire.decode(line)
                target = module if request["of"] is None else objects[request["of"]]
                found = _perform(request, target, lambda number: objects[number])
                answer = {"value": wire.pack(found, keep)}
            except Exception as error:  # noqa: BLE001 (any exception of the program is its answer)
                kinds = [kind.__name__ for kind in type(error).__mro__]
                answer = {"raised": kinds, "text": str(error)[:2000]}
            reply(answer)


def _perform(request: dict[str, Any], target: Any, find: Any) -> Any:
    from rewards.sandbox import wire

    operation: str = request["op"]
    name: Any = request["name"]
    if operation == "call":
        function = target if name is None else lookup(target, name)
        args = [wire.unpack(item, find) for item in request["args"]]
        kwargs = {key: wire.unpack(item, find) for key, item in request["kwargs"].items()}
        return function(*args, **kwargs)
    if operation == "name":
        return lookup(target, name)
    if operation == "get":
        return getattr(target, name)
    if operation == "set":
        return setattr(target, name, wire.unpack(request["args"][0], find))
    if operation == "item":
        return target[wire.unpack(request["args"][0], find)]
    if operation == "next":
        try:
            return [next(target)]
        except StopIteration:
            return None
    functions: dict[str, Any] = {"len": len, "iter": iter, "str": str, "repr": repr}
    return functions[operation](target)


def lookup(module: Any, path: str) -> Any:
    """The function `path` (`f`, or `Class.method`) of the module; a method of a class `Solution` if it has no such name."""
    first, _, method = path.partition(".")
    owner = getattr(module, first, None)
    if method:
        return getattr(owner() if isinstance(owner, type) else owner, method)
    if owner is None and isinstance(solution := getattr(module, "Solution", None), type):
        return getattr(solution(), first)
    return getattr(module, first)
