"""Lines of SFT files for the tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Line = dict[str, Any]
Write = Callable[[list[Line]], Path]


def example(id: str, question: Any = "1+1", *, think: str = "one and one", answer: str = "2", domain: str = "math") -> Line:
    response = f"<think>{think}</think>\n<|begin_of_box|>{answer}<|end_of_box|>"
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": response}]
    return {"id": id, "domain": domain, "messages": messages}


def shown(image: str, text: str) -> list[dict[str, str]]:
    return [{"type": "image", "image": image}, {"type": "text", "text": text}]
