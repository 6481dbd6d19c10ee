"""Fields, units and checks of metadata."""
