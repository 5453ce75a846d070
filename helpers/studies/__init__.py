"""The measuring instruments of one or two chapters."""
