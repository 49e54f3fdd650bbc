"""The verl engine: RL and SFT on a Ray cluster, through verl's own extension points (docs/verl.md). Only this package imports
verl and Ray.
"""
