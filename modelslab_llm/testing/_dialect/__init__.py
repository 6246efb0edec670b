"""How servers say things: the dialects a script can be played in. Pure."""
