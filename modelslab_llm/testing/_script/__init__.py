"""What a test scripts: replies, faults, and assertions on what was received. Pure."""
