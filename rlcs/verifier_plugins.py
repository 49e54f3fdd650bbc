"""Verifiers from outside this project in a configuration: a name in it is a module whose import registers them."""

import importlib
from typing import Annotated

from pydantic import AfterValidator


def registered(module: str) -> str:
    """Imports the module, so that problems can name its verifiers wherever the configuration has been read. Raises ValueError
    where it cannot be imported.
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"module {module!r} cannot be imported ({error}); install it, or add the directory it is in to PYTHONPATH"
        ) from error
    return module


VerifierPlugin = Annotated[str, AfterValidator(registered)]
