"""Programs that use another client, each run by the Python that has it."""
