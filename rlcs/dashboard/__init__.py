"""A web page over run directories (`rlcs dashboard`, docs/dashboard.md): reads what a run writes, and nothing else."""
