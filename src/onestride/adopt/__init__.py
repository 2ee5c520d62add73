"""Policies of other libraries: read from their files, without the library and without running anything in them."""
