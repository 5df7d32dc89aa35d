"""The training objectives of CoDi, each a loss with its own jitted train step."""
