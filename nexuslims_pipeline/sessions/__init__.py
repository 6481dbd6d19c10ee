"""Sessions: who used which instrument when, what they answered, and whether they consented."""
