"""The outside world, one door each: NEMO, instrument storage, the store, the catalogue."""
