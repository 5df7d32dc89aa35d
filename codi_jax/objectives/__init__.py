"""The losses of CoDi, each with its own jitted train step."""
