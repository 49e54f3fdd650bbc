"""Messages to model inputs to completions: chat rendering, packed forward passes, thinking budget, rollout engines."""
