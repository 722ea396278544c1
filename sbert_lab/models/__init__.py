"""Text becomes tokens, tokens become vectors: the encoders and their folders."""
