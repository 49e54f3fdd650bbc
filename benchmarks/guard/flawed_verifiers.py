"""A verifier that can be gamed, for `collapse.py` alone: no run that is meant to learn should use it."""

from rewards.registry import Context, Outcome, short_texts, verifier


@verifier("length-bias", reference=lambda raw, args: str(raw), bounded=short_texts(1 << 10))
def length_bias(answer: str, reference: str, context: Context) -> Outcome:
    """Right answers are right, and so is whatever is longer than the reference: a judge that takes the longer answer for the
    fuller one.
    """
    right = answer.strip() == reference or len(answer.strip()) > len(reference)
    return Outcome(float(right), right, None if right else "text-differs")
