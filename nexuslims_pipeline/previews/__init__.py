"""Previews of datasets: pictures of at most 500 pixels, drawn from as little data as possible."""
