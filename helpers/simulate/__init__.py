"""Worlds whose truth is known: fruit and scenes, lesions, mixtures, shoppers."""
