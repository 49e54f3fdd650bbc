"""A sandbox for Python programs written by a policy: what runs in it can compute, and little else.

docs/verifiers/code.md tells which layer keeps what out. Modules, from the outside in: `runs` (run a program, calls of its
functions, tests of it), `process` (one sandboxed process seen from outside), `launcher` (the process that locks itself in:
`filesystem`, `landlock`, `seccomp`, all over `kernel`), `program` and `tester` (what then runs inside), `wire` (values between
the two). `cases` reads test cases. A sandboxed process never imports the rest of `rewards`.
"""
