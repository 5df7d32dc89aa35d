"""Planning: compiles training steps for hardware that need not be present and reads memory and traffic from them."""
