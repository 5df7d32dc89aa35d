"""What a stage takes on hardware that need not be here: its step compiled for it, and read."""
