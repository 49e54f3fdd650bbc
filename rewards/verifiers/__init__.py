"""One module per verifier family. Each registers its functions with `rewards.registry.verifier` when imported."""
