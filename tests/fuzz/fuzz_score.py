"""Coverage-guided fuzzing of `rewards.score` over all verifiers.

python tests/fuzz/fuzz_score.py [-runs=N] [other libFuzzer options] [CORPUS FOLDER]    # docs/fuzzing.md
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["rewards"]):
    from fuzz_targets import decode, score_text

    from rewards import registry

    registry.known_verifiers()  # imports them all

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Fuzz from the folder given, or from the corpus that is kept."""
    if all(argument.startswith("-") for argument in sys.argv[1:]):
        sys.argv.append(str(CORPUS / "score"))
    atheris.Setup(sys.argv, lambda data: score_text(decode(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
