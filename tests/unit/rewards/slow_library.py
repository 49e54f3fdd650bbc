"""A library that takes long to import; for the verifier of hostile_verifiers.py that needs it."""

import time

time.sleep(1.5)
