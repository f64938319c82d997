"""One run again: replay, one device alone, shrink."""
