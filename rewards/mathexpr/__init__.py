"""Mathematical answers: a LaTeX and plain-text parser of our own, and equality of what it reads, under budgets."""
