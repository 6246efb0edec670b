"""Define what a test scripts: replies, faults, and assertions on requests. Pure."""
