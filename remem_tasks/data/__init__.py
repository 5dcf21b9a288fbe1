"""Rows from a folder or the Hub: splits, files, pictures; what is true of no benchmark alone."""
