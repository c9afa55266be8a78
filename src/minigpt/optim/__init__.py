"""Parameter groups, optimizers, and schedules as pure functions of the step."""
