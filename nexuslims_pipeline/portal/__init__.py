"""What a researcher sees: the page of each session and the front page that finds it."""
