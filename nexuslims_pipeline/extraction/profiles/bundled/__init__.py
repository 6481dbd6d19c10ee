"""Profiles of instruments that NexusLIMS had, one module each; a site's profile of the same name takes its place."""
