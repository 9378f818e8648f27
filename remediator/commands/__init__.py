"""Commands whose work is more than a few lines: plain values in, text and an exit code out. cli.py registers them."""
