"""How metadata and numbers lie in files, where several readers have it in common or one would drown in it."""
