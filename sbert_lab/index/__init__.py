"""Vectors become answers: exact and approximate search, compression, passages."""
