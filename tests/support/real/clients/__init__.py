"""Programs that ask through a client of somebody else, each run by the Python that has it."""
