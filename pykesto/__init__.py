"""pykesto: an embedded, transactional, concurrent object database for Python."""
