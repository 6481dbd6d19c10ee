"""Which files belong to a session: crawl, companions, attribution, settling."""
