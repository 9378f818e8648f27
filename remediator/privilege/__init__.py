"""The least privilege that the rules ask for: which uses of actions there are, and how each system writes it down."""
