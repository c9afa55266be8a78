"""How fast this machine trains and decodes a model: measured so that a busy machine cannot favour anyone."""
