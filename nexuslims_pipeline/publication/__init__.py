"""What is published of a session, and the documents made of it: pages for notebooks, crates, citations."""
