"""Accepting and predicting the strings of exact grammars, and the long-dependency problems."""
