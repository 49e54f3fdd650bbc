"""Coverage-guided fuzzing of `rewards.score` over all verifiers.

python tests/fuzz/fuzz_score.py [-runs=N] [other libFuzzer options] [CORPUS FOLDER]    # docs/fuzzing.md
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["rewards"]):
    from fuzz_targets import decode, score_text

    from rewards import registry

    registry.known_verifiers()  # imports them all

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Fuzz from the folders given, or from the kept corpus, which stays as it is."""
    if all(argument.startswith("-") for argument in sys.argv[1:]):
        sys.argv += [tempfile.mkdtemp(prefix="fuzz-"), str(CORPUS / "score")]  # new inputs go to the first
    atheris.Setup(sys.argv, lambda data: score_text(decode(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
