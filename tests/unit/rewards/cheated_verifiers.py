"""Verifiers with holes, for the audit to find; loaded as a plug-in by test_audit.py."""

from rewards.registry import Context, Outcome, verifier


@verifier("test-contains", domains=("test-contains",), reference=lambda raw, args: raw)
def contains(answer: str, reference: str, context: Context) -> Outcome:
    """Pays wherever the reference stands."""
    right = reference in answer
    return Outcome(float(right), right)


@verifier("test-hangs", domains=("test-hangs",), reference=lambda raw, args: raw)
def hangs(answer: str, reference: str, context: Context) -> Outcome:
    """Never comes back from one answer, and is right otherwise."""
    while answer == "5 or 17.25":
        pass
    right = answer.strip() == reference
    return Outcome(float(right), right)
