"""Coverage-guided fuzzing of one parser.

python tests/fuzz/fuzz_parsers.py TARGET [-runs=N] [other libFuzzer options] [CORPUS FOLDER]    # docs/fuzzing.md
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["rewards"]):
    from fuzz_targets import PARSERS, decode

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Fuzz the target that the first argument names; without a folder, from the kept corpus, which stays as it is."""
    if len(sys.argv) < 2 or sys.argv[1] not in PARSERS:
        sys.exit(f"usage: fuzz_parsers.py TARGET [-runs=N] [CORPUS]; TARGET is one of {', '.join(PARSERS)}")
    target = PARSERS[sys.argv.pop(1)]
    if all(argument.startswith("-") for argument in sys.argv[1:]):
        sys.argv += [tempfile.mkdtemp(prefix="fuzz-"), str(CORPUS / target.__name__)]  # new inputs go to the first
    atheris.Setup(sys.argv, lambda data: target(decode(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
