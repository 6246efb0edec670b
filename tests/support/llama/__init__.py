"""A real llama-server with a scripted model, for tests."""
